//! Memory of the host that the GPU copies to and from while everybody else goes on.

use cudarc::driver::{result, sys};

use super::super::machine::Address;
use super::{Event, failed};
use crate::Result;

/// Bytes of a slot.
const SLOT: usize = 4 << 20;
/// Slots: some steps' worth, so that the host may run ahead of the device.
const SLOTS: usize = 8;

/// A ring of slots.
#[derive(Debug)]
pub struct Pinned {
    slots: Vec<(*mut u8, Event)>,
    next: usize,
}

impl Pinned {
    /// Slots of the current context.
    pub fn new() -> Result<Self> {
        let mut slots = Vec::with_capacity(SLOTS);
        for _ in 0..SLOTS {
            // SAFETY: the memory is written before it is read.
            let memory =
                unsafe { result::malloc_host(SLOT, 0) }.map_err(failed("cuMemHostAlloc"))?;
            slots.push((memory.cast(), Event::new()?));
        }
        Ok(Self { slots, next: 0 })
    }

    /// A slot that nobody copies from any more.
    fn take(&mut self) -> Result<(*mut u8, &Event)> {
        let (memory, event) = &self.slots[self.next];
        self.next = (self.next + 1) % SLOTS;
        // An event that was never recorded is reached at once.
        event.wait()?;
        Ok((*memory, event))
    }

    /// Copies to the device; `bytes` may change at once.
    pub fn write(&mut self, stream: sys::CUstream, to: Address, bytes: &[u8]) -> Result<()> {
        let mut to = to;
        for part in bytes.chunks(SLOT) {
            let (memory, event) = self.take()?;
            // SAFETY: a slot is at least as long as a part, and nobody reads it now.
            let slot = unsafe {
                std::ptr::copy_nonoverlapping(part.as_ptr(), memory, part.len());
                std::slice::from_raw_parts(memory.cast_const(), part.len())
            };
            // SAFETY: the caller's view lies in what was allocated; the slot stays as it is until its event.
            unsafe { result::memcpy_htod_async(to, slot, stream) }
                .map_err(failed("cuMemcpyHtoDAsync"))?;
            event.record(stream)?;
            to += part.len() as u64;
        }
        Ok(())
    }

    /// Copies from the device, once all is done that was asked for.
    pub fn read(&mut self, stream: sys::CUstream, from: Address, bytes: &mut [u8]) -> Result<()> {
        let mut from = from;
        for part in bytes.chunks_mut(SLOT) {
            let (memory, event) = self.take()?;
            // SAFETY: a slot is at least as long as a part; the caller's view lies in what was allocated; the event is waited for before the slot
            // is read.
            unsafe {
                let slot = std::slice::from_raw_parts_mut(memory, part.len());
                result::memcpy_dtoh_async(slot, from, stream)
                    .map_err(failed("cuMemcpyDtoHAsync"))?;
                event.record(stream)?;
                event.wait()?;
                part.copy_from_slice(slot);
            }
            from += part.len() as u64;
        }
        Ok(())
    }

    /// Gives the memory back.
    ///
    /// # Safety
    /// Nothing may run that copies.
    pub unsafe fn free(&mut self) {
        for (memory, _) in self.slots.drain(..) {
            // SAFETY: the caller's; each is given back once.
            let _ = unsafe { result::free_host(memory.cast()) };
        }
    }
}

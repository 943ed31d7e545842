//! Which view lies where.

use std::collections::BTreeMap;

use super::machine::{Address, Format, Machine};
use crate::Result;
use crate::ops::{Kind, View};

/// What one `allocate` gave.
#[derive(Clone, Copy, Debug)]
struct Buffer {
    at: Address,
    len: usize,
    kind: Kind,
}

/// Buffers, and the copies of those that products read.
#[derive(Debug, Default)]
pub struct Memory {
    buffers: Vec<Option<Buffer>>,
    copies: BTreeMap<u32, Address>,
}

/// bfloat16, to the nearest, ties to even.
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) as u16
}

impl Memory {
    pub fn bytes(kind: Kind, format: Format) -> usize {
        match kind {
            Kind::Float | Kind::Word => 4,
            Kind::Activation => format.bytes(),
        }
    }

    pub fn allocate(&mut self, machine: &mut impl Machine, kind: Kind, len: usize) -> Result<View> {
        let bytes = len.max(1) * Self::bytes(kind, machine.format());
        let at = machine.allocate(bytes)?;
        self.buffers.push(Some(Buffer { at, len, kind }));
        Ok(View {
            buffer: self.buffers.len() as u32 - 1,
            start: 0,
            len,
            kind,
        })
    }

    pub fn release(&mut self, machine: &mut impl Machine, view: View) -> Result<()> {
        if let Some(copy) = self.copies.remove(&view.buffer) {
            machine.release(copy)?;
        }
        match self.buffers[view.buffer as usize].take() {
            Some(buffer) => machine.release(buffer.at),
            None => Ok(()),
        }
    }

    /// Where a view begins.
    ///
    /// # Panics
    /// Where it is of another device, or gone: a mistake in the program, never in data.
    pub fn at(&self, view: View, format: Format) -> Address {
        let buffer = self.buffers[view.buffer as usize];
        let buffer = buffer.unwrap_or_else(|| panic!("{view:?} was released"));
        assert!(
            view.start + view.len <= buffer.len && view.kind == buffer.kind,
            "{view:?} is of another device"
        );
        buffer.at + (view.start * Self::bytes(view.kind, format)) as u64
    }

    /// Where products read a view of parameters.
    ///
    /// # Panics
    /// Where nobody said that they changed: a mistake in the program, never in data.
    pub fn weights_at(&self, view: View, format: Format) -> Address {
        if format == Format::F32 {
            return self.at(view, format);
        }
        let copy = self.copies.get(&view.buffer);
        let copy = copy.unwrap_or_else(|| panic!("{view:?} was never said to have changed"));
        copy + (view.start * format.bytes()) as u64
    }

    /// The copy of a view's whole buffer, where there is one.
    pub fn copy(&self, view: View) -> Option<Address> {
        self.copies.get(&view.buffer).copied()
    }

    /// The copy of a view's whole buffer, and how many elements it has.
    pub fn make_copy(
        &mut self,
        machine: &mut impl Machine,
        view: View,
    ) -> Result<(Address, usize)> {
        let len = self.buffers[view.buffer as usize].map_or(0, |b| b.len);
        assert!(
            len.is_multiple_of(8),
            "parameters are copied by eights: {view:?}"
        );
        if let Some(copy) = self.copies.get(&view.buffer) {
            return Ok((*copy, len));
        }
        let copy = machine.allocate(len * machine.format().bytes())?;
        self.copies.insert(view.buffer, copy);
        Ok((copy, len))
    }
}

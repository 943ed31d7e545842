//! Two processes that have the same of everything, played by one: every sum is twice what it was.

use cloze_train::parallel::{Collective, DeviceCollective, Health};
use cloze_train::{Error, Result};

/// Both of them.
#[derive(Default)]
pub struct Twins {
    /// How many values each sum was over.
    pub sums: Vec<usize>,
    /// Whether values lie where this may change them, as on a device.
    pub on_device: bool,
    /// What is to be summed, and what it was when that was said.
    under_way: Vec<(*mut f32, Vec<f32>)>,
}

// SAFETY: used by one thread at a time.
unsafe impl Send for Twins {}

impl DeviceCollective for Twins {
    unsafe fn all_reduce_at(&mut self, address: u64, len: usize, _: u64) -> Result<()> {
        let place = address as *mut f32;
        // SAFETY: the caller's: memory of the host, on which its "device" runs.
        let values = unsafe { std::slice::from_raw_parts(place, len) };
        self.under_way.push((place, values.to_vec()));
        self.sums.push(len);
        Ok(())
    }

    fn join(&mut self, _: u64) -> Result<()> {
        for (place, before) in self.under_way.drain(..) {
            // SAFETY: as above.
            let values = unsafe { std::slice::from_raw_parts_mut(place, before.len()) };
            assert!(values == before, "changed while it was summed");
            values.iter_mut().for_each(|v| *v *= 2.0);
        }
        Ok(())
    }
}

impl Collective for Twins {
    fn rank(&self) -> usize {
        0
    }

    fn world_size(&self) -> usize {
        2
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        values.iter_mut().for_each(|v| *v *= 2.0);
        self.sums.push(values.len());
        Ok(())
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<()> {
        values.iter_mut().for_each(|v| *v *= 2.0);
        Ok(())
    }

    fn broadcast(&mut self, _: &mut [u8], _: usize) -> Result<()> {
        Ok(())
    }

    fn barrier(&mut self) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> Health {
        Box::new(|| Ok(()))
    }

    fn abort(&mut self, _: &Error) {}

    fn on_device(&mut self) -> Option<&mut dyn DeviceCollective> {
        match self.on_device {
            true => Some(self),
            false => None,
        }
    }

    fn describe(&self) -> String {
        "twins".into()
    }
}

//! Memory between guards.

use crate::cuda::machine::Address;

/// A buffer between two zones that nobody may write to.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<Line>,
    pub len: usize,
}

#[derive(Clone, Copy, Debug)]
#[repr(C, align(256))]
pub struct Line(pub [u8; 256]);

/// What guards are made of.
pub const GUARD: u8 = 0xFD;

impl Buffer {
    /// Zeros.
    pub fn new(len: usize) -> Self {
        let lines = len.div_ceil(256) + 2;
        let mut buffer = Self {
            bytes: vec![Line([GUARD; 256]); lines],
            len,
        };
        let at = buffer.at();
        // SAFETY: within the lines, which are plain bytes.
        unsafe { std::ptr::write_bytes(at as *mut u8, 0, len) };
        buffer
    }

    /// Where they are.
    pub fn at(&mut self) -> Address {
        self.bytes.as_mut_ptr().wrapping_add(1) as Address
    }

    /// Demands that nobody wrote beyond.
    pub fn check(&self) {
        let end = 256 + self.len;
        let all = self.bytes.iter().flat_map(|line| line.0);
        let guards = all.enumerate().filter(|(i, _)| *i < 256 || *i >= end);
        for (i, byte) in guards {
            let (off, len) = (i as i64 - 256, self.len);
            assert!(byte == GUARD, "byte {off} of a buffer of {len} was written");
        }
    }
}

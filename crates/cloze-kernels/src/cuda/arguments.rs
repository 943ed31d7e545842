//! What a kernel is given: one structure of C, put together field by field.

use super::machine::Address;
use crate::dropout::{Dropout, Site};

/// The bytes of a structure whose fields are added in order, each aligned as C does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Vec<u8>);

impl Arguments {
    fn put<const N: usize>(mut self, bytes: [u8; N]) -> Self {
        self.0.resize(self.0.len().next_multiple_of(N), 0);
        self.0.extend(bytes);
        self
    }

    /// A pointer.
    pub fn at(self, address: Address) -> Self {
        self.put(address.to_le_bytes())
    }

    /// A `uint64`.
    pub fn long(self, value: usize) -> Self {
        self.put((value as u64).to_le_bytes())
    }

    /// A `uint`.
    pub fn word(self, value: usize) -> Self {
        self.put((value as u32).to_le_bytes())
    }

    /// A `float`.
    pub fn float(self, value: f32) -> Self {
        self.put(value.to_le_bytes())
    }

    /// A `Drop`, whose `draw` lies at `draw`.
    pub fn drop(self, site: Option<(Site, Address)>) -> Self {
        let (key, number, below, draw) = match site {
            Some((site, draw)) => (site.key, site.number, site.below, draw),
            None => ([0; 2], 0, 0, 0),
        };
        let dropout = Dropout {
            key,
            place: 0,
            first_token: 0,
            below,
        };
        self.at(draw)
            .word(key[0] as usize)
            .word(key[1] as usize)
            .word((number << 12) as usize)
            .word(below as usize)
            .float(dropout.kept())
            .word(usize::from(site.is_some()))
    }

    /// The structure, which ends as it is aligned: at a multiple of 8 bytes.
    pub fn bytes(mut self) -> Vec<u8> {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_aligned() {
        let bytes = Arguments::default().word(1).at(2).float(1.0).bytes();
        assert_eq!(bytes.len(), 24);
        assert_eq!((bytes[0], bytes[8], bytes[19]), (1, 2, 0x3F));
    }
}

//! Attention.

use super::{Cuda, Machine, Result};
use crate::ops::{Attention, View};

impl<M: Machine> Cuda<M> {
    pub(super) fn attend(&mut self, _: &Attention) -> Result<()> {
        unreachable!("not here yet")
    }

    pub(super) fn attend_back(&mut self, _: &Attention, _: View, _: View) -> Result<()> {
        unreachable!("not here yet")
    }
}

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Instructions were asked for that the processor does not have.
    #[error("this processor has no {asked}, its best is {best}")]
    NoSuchInstructions {
        /// What was asked for.
        asked: crate::cpu::isa::Isa,
        /// What there is.
        best: crate::cpu::isa::Isa,
    },
    /// A model's size that a device's kernels do not take.
    #[error(
        "a {what} of {size} cannot be computed on CUDA: sizes must be multiples of 8, the hidden size at most 2048"
    )]
    Shape {
        /// Which size.
        what: &'static str,
        /// How much.
        size: usize,
    },
    /// A device holds no memory for what was asked.
    #[error("no memory for {len} elements")]
    NoMemory {
        /// Elements.
        len: usize,
    },
}

/// Shorthand for this crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

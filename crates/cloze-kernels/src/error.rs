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
    /// A library of CUDA is not there.
    #[error("{name} was not found; looked in {looked}")]
    NoLibrary {
        /// The library's file.
        name: String,
        /// Where it was looked for.
        looked: String,
    },
    /// There is no GPU that can be used.
    #[error("{0}")]
    NoDevice(String),
    /// A call of a library of CUDA failed.
    #[error("{call} failed: {why}")]
    Cuda {
        /// The function.
        call: String,
        /// What it said.
        why: String,
    },
    /// The kernels do not compile.
    #[error("the kernels do not compile for {architecture}:\n{log}")]
    Compile {
        /// What for.
        architecture: String,
        /// What the compiler said.
        log: String,
    },
    /// A GPU holds no memory for what was asked.
    #[error("the GPU has no memory for {bytes} bytes: {free} of {total} are free")]
    NoDeviceMemory {
        /// What was asked for.
        bytes: usize,
        /// What there was.
        free: usize,
        /// All that it has.
        total: usize,
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

impl Error {
    /// What a person can do about it, where there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoLibrary { name, .. } if name.starts_with("libcuda.") => Some(
                "install NVIDIA's driver, or give --device cpu".into(),
            ),
            Self::NoLibrary { .. } => Some(
                "`pip install nvidia-cuda-nvrtc nvidia-cublas` beside the python3 on the path, or name the folders of CUDA's libraries in CLOZE_CUDA_PATH"
                    .into(),
            ),
            Self::NoDevice(_) | Self::Shape { .. } => Some("give --device cpu".into()),
            Self::NoMemory { .. } | Self::NoDeviceMemory { .. } => Some("give a smaller --batch-tokens".into()),
            Self::Cuda { .. } | Self::Compile { .. } | Self::NoSuchInstructions { .. } => None,
        }
    }
}

//! The device that is looked at.

use cloze_kernels::cpu::{Cpu, isa};
use cloze_train::device::{Build, DeviceChoice, build};
use cloze_train::engine::{Engine, EngineState, Objective};
use cloze_train::{BertConfig, Precision as Products};
use serde_json::json;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Which {
    Cpu,
    Cuda,
}

/// What is computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    F32,
    Bf16,
}

impl Precision {
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

/// A device, and what it computes in.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub which: Which,
    pub precision: Precision,
}

impl Place {
    /// The CPU's operations.
    pub fn cpu(self) -> Cpu {
        Cpu::new(match self.precision {
            Precision::F32 => isa::Precision::F32,
            Precision::Bf16 => isa::Precision::Bf16,
        })
    }

    /// A GPU's operations.
    #[cfg(feature = "cuda")]
    pub fn cuda(
        self,
    ) -> anyhow::Result<cloze_kernels::cuda::Cuda<cloze_kernels::cuda::driver::Device>> {
        use cloze_kernels::cuda::{Cuda, driver::Device, machine::Format};
        let format = match self.precision {
            Precision::F32 => Format::F32,
            Precision::Bf16 => Format::Bf16,
        };
        Ok(Cuda::new(Device::open(format, 0)?))
    }

    /// A training engine.
    pub fn engine(
        self,
        config: &BertConfig,
        state: EngineState,
    ) -> anyhow::Result<Box<dyn Engine>> {
        let asked = Build {
            device: match self.which {
                Which::Cpu => DeviceChoice::Cpu,
                Which::Cuda => DeviceChoice::Cuda(None),
            },
            precision: Some(match self.precision {
                Precision::F32 => Products::F32,
                Precision::Bf16 => Products::Bf16,
            }),
            ..Build::default()
        };
        Ok(build(asked, config, Objective::MlmNsp, state)?.engine)
    }
}

/// Prints a finding.
pub fn say(line: &serde_json::Value) {
    println!("{line}");
}

/// What only a GPU has.
#[cfg(not(feature = "cuda"))]
pub fn without() -> anyhow::Error {
    anyhow::anyhow!("this executable was built without CUDA: build it with --features cuda")
}

pub fn describe(place: Place) -> anyhow::Result<bool> {
    use cloze_kernels::Ops;
    let name = match place.which {
        Which::Cpu => place.cpu().describe(),
        #[cfg(feature = "cuda")]
        Which::Cuda => place.cuda()?.describe(),
        #[cfg(not(feature = "cuda"))]
        Which::Cuda => return Err(without()),
    };
    say(&json!({"check": "device", "device": name}));
    Ok(true)
}

//! Where a step is computed: what was asked for, what there is, and why it was taken.

use std::fmt;
use std::str::FromStr;

use cloze_kernels::Ops;
use cloze_kernels::cpu::{Cpu, isa};
use serde::{Deserialize, Serialize};

use crate::engine::{Engine, EngineKind, EngineState, Objective, Precision};
use crate::native::NativeEngine;
use crate::reference::ReferenceEngine;
use crate::{BertConfig, Error, Result};

/// The device that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// A GPU where there is one that can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this number, or an error.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(0) => f.write_str("cuda"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "must be auto, cpu, cuda or cuda:N".to_owned()),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// What an engine is built of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Build {
    /// Which engine.
    pub engine: EngineKind,
    /// Which device.
    pub device: DeviceChoice,
    /// Which of the processes on this machine asks: each takes another GPU, unless one is named.
    pub local_rank: usize,
    /// How products are computed; the device's own way where it is `None`: bf16 on a GPU, single precision on the CPU.
    pub precision: Option<Precision>,
}

/// An engine, and what was chosen.
pub struct Built {
    /// The engine.
    pub engine: Box<dyn Engine>,
    /// How products are computed.
    pub precision: Precision,
    /// Why it runs where it does, for a person.
    pub why: String,
}

/// Builds an engine that continues from `state`.
pub fn build(
    build: Build,
    config: &BertConfig,
    objective: Objective,
    state: EngineState,
) -> Result<Built> {
    if build.engine == EngineKind::Reference {
        return reference(build, config, objective, state);
    }
    let why = match build.device {
        DeviceChoice::Cpu => "as asked for".to_owned(),
        DeviceChoice::Cuda(number) => {
            let ops = gpu::open(number, build, config)?;
            return native(
                ops,
                gpu::precision(build),
                "as asked for".into(),
                config,
                objective,
                state,
            );
        }
        DeviceChoice::Auto => match gpu::open(0, build, config) {
            Ok(ops) => {
                let why = "chosen because there is a GPU".into();
                return native(ops, gpu::precision(build), why, config, objective, state);
            }
            Err(why) => format!("chosen because there is no GPU to use: {why}"),
        },
    };
    let precision = build.precision.unwrap_or_default();
    let cpu = Cpu::new(match precision {
        Precision::F32 => isa::Precision::F32,
        Precision::Bf16 => isa::Precision::Bf16,
    });
    native(cpu, precision, why, config, objective, state)
}

fn native<O: Ops + 'static>(
    ops: O,
    precision: Precision,
    why: String,
    config: &BertConfig,
    objective: Objective,
    state: EngineState,
) -> Result<Built> {
    Ok(Built {
        engine: Box::new(NativeEngine::new(ops, config, objective, state)?),
        precision,
        why,
    })
}

fn reference(
    build: Build,
    config: &BertConfig,
    objective: Objective,
    state: EngineState,
) -> Result<Built> {
    let refuse = |option, why: &str| {
        Err(Error::Config {
            option,
            why: why.into(),
        })
    };
    if build.precision == Some(Precision::Bf16) {
        return refuse(
            "--precision",
            "is bf16, which --engine reference does not have",
        );
    }
    if let DeviceChoice::Cuda(_) = build.device {
        return refuse("--device", "is cuda, where --engine reference does not run");
    }
    Ok(Built {
        engine: Box::new(ReferenceEngine::new(config, objective, state)?),
        precision: Precision::F32,
        why: "the reference engine runs nowhere else".into(),
    })
}

#[cfg(feature = "cuda")]
mod gpu {
    use cloze_kernels::cuda::driver::{Device, count};
    use cloze_kernels::cuda::{Cuda, machine::Format};

    use super::{Build, Precision};
    use crate::{BertConfig, Result};

    pub fn precision(build: Build) -> Precision {
        build.precision.unwrap_or(Precision::Bf16)
    }

    pub fn open(number: usize, build: Build, config: &BertConfig) -> Result<Cuda<Device>> {
        Cuda::<Device>::check(config.hidden_size, config.intermediate_size)?;
        let number = match number {
            0 => build.local_rank % count()?.max(1),
            named => named,
        };
        let format = match precision(build) {
            Precision::F32 => Format::F32,
            Precision::Bf16 => Format::Bf16,
        };
        Ok(Cuda::new(Device::open(format, number)?))
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use cloze_kernels::cpu::Cpu;

    use super::{Build, Precision};
    use crate::{BertConfig, Error, Result};

    pub fn precision(build: Build) -> Precision {
        build.precision.unwrap_or_default()
    }

    /// There is none.
    pub fn open(_: usize, _: Build, _: &BertConfig) -> Result<Cpu> {
        Err(Error::NoCuda)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        for name in ["auto", "cpu", "cuda", "cuda:3"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["gpu", "cuda:", "cuda:x", "CUDA", ""] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }
}

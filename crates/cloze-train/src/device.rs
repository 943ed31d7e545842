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
    /// The GPU of this number, or an error; without one, another for each process on this machine.
    Cuda(Option<usize>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(n)) => write!(f, "cuda:{n}"),
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
            "cuda" => Ok(Self::Cuda(None)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|n| n.parse().ok())
                .map(|n| Self::Cuda(Some(n)))
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
    /// Which of the processes on this machine asks: each takes another GPU, as far as there are enough, unless one is named.
    pub local_rank: usize,
    /// How products are computed; the device's own way where it is `None`: bf16 on a GPU, single precision on the CPU.
    pub precision: Option<Precision>,
    /// Whether layers compute again, on the way back, what they did not keep.
    pub recompute: bool,
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
                build.recompute,
                config,
                objective,
                state,
            );
        }
        DeviceChoice::Auto => match gpu::open(None, build, config) {
            Ok(ops) => {
                let why = "chosen because there is a GPU".into();
                let (precision, again) = (gpu::precision(build), build.recompute);
                return native(ops, precision, why, again, config, objective, state);
            }
            Err(why) => format!("chosen because there is no GPU to use: {why}"),
        },
    };
    let precision = build.precision.unwrap_or_default();
    let cpu = Cpu::new(match precision {
        Precision::F32 => isa::Precision::F32,
        Precision::Bf16 => isa::Precision::Bf16,
    });
    native(
        cpu,
        precision,
        why,
        build.recompute,
        config,
        objective,
        state,
    )
}

fn native<O: Ops + 'static>(
    ops: O,
    precision: Precision,
    why: String,
    recompute: bool,
    config: &BertConfig,
    objective: Objective,
    state: EngineState,
) -> Result<Built> {
    let engine = NativeEngine::new(ops, config, objective, state)?;
    Ok(Built {
        engine: Box::new(engine.recomputing(recompute)),
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

/// Which of `count` GPUs a process takes: the one that is named, or another for each process, as far as there are enough.
#[cfg(any(feature = "cuda", test))]
fn number(named: Option<usize>, local_rank: usize, count: usize) -> usize {
    named.unwrap_or_else(|| local_rank % count.max(1))
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

    pub fn open(named: Option<usize>, build: Build, config: &BertConfig) -> Result<Cuda<Device>> {
        Cuda::<Device>::check(config.hidden_size, config.intermediate_size)?;
        let number = super::number(named, build.local_rank, count()?);
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
    pub fn open(_: Option<usize>, _: Build, _: &BertConfig) -> Result<Cpu> {
        Err(Error::NoCuda)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named() {
        for (name, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda", DeviceChoice::Cuda(None)),
            ("cuda:0", DeviceChoice::Cuda(Some(0))),
            ("cuda:3", DeviceChoice::Cuda(Some(3))),
        ] {
            assert_eq!(name.parse(), Ok(choice));
            assert_eq!(choice.to_string(), name);
            // As checkpoints have it.
            let json = format!("\"{name}\"");
            assert_eq!(serde_json::to_string(&choice).unwrap(), json);
            assert_eq!(serde_json::from_str::<DeviceChoice>(&json).unwrap(), choice);
        }
        for name in ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", ""] {
            assert!(name.parse::<DeviceChoice>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_gpu_that_is_named_is_taken_by_every_process() {
        let numbers =
            |named, count| [0, 1, 2, 3].map(|local_rank| number(named, local_rank, count));
        assert_eq!(numbers(None, 4), [0, 1, 2, 3]);
        assert_eq!(
            numbers(None, 2),
            [0, 1, 0, 1],
            "shared where there are fewer"
        );
        assert_eq!(numbers(Some(0), 4), [0; 4]);
        assert_eq!(numbers(Some(3), 2), [3; 4], "which is an error later");
        assert_eq!(numbers(None, 0), [0; 4], "as well");
    }
}

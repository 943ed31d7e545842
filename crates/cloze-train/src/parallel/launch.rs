//! Who a process is among the processes of a run, as its launcher says in the environment.
//!
//! | launcher | rank | world size | local rank |
//! |---|---|---|---|
//! | `torchrun --no-python`, or by hand | `RANK` | `WORLD_SIZE` | `LOCAL_RANK` |
//! | `mpirun` of Open MPI | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_SIZE` | `OMPI_COMM_WORLD_LOCAL_RANK` |
//! | `mpirun` of MPICH and Intel MPI | `PMI_RANK` | `PMI_SIZE` | `MPI_LOCALRANKID` or `PALS_LOCAL_RANKID` |
//! | `srun` | `SLURM_PROCID` | `SLURM_STEP_NUM_TASKS` or `SLURM_NTASKS` | `SLURM_LOCALID` |
//!
//! An inner launcher wins over the one that it was started by: torchrun and mpirun run within steps of srun. `RANK` and `WORLD_SIZE` that were set
//! by hand must agree with the launcher. `LOCAL_RANK`, `MASTER_ADDR` and `MASTER_PORT` win where they are set; otherwise srun and mpirun have ways to
//! do without the last two.
//!
//! A batch script has `SLURM_PROCID` 0 and the `SLURM_NTASKS` that were asked for, but it is one process: only a step (`SLURM_STEP_*`) has several.

use std::fmt;

use crate::{Error, Result};

/// One process of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct World {
    /// Which process this is, from 0.
    pub rank: usize,
    /// Processes.
    pub world_size: usize,
    /// Which of the processes on its node this is, from 0: the number of its device, where it sees as many as there are processes.
    pub local_rank: usize,
    /// Where rank 0 listens; `None` for a process that is alone.
    pub address: Option<Address>,
    /// What the launcher calls the run, so that two on one port are told apart; may be empty.
    pub job: String,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Address {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Port of rank 0 where neither a variable nor a job's number gives one.
const DEFAULT_PORT: u16 = 29_500;

impl World {
    /// A process on its own.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            rank: 0,
            world_size: 1,
            local_rank: 0,
            address: None,
            job: String::new(),
        }
    }

    /// Reads the environment of this process.
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(&|name| {
            std::env::var_os(name).map(|v| v.to_string_lossy().into_owned())
        })
    }

    /// Reads variables; one that is empty is as good as none.
    pub fn from_variables(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        Variables(lookup).world()
    }
}

/// A number, and the variable that has it.
#[derive(Clone, Copy, Debug)]
struct Named {
    variable: &'static str,
    value: usize,
}

/// What a launcher other than torchrun says.
#[derive(Debug)]
struct Launcher {
    rank: Named,
    size: Named,
    local: Option<Named>,
    /// Processes on this node.
    local_size: Option<Named>,
    /// Whether it is srun. Daemons of mpirun may be steps too, but not all of them and not the same ones.
    step: bool,
}

struct Variables<'a>(&'a dyn Fn(&str) -> Option<String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let value = (self.0)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    fn number(&self, variable: &'static str) -> Result<Option<Named>> {
        let Some(text) = self.get(variable) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(Named { variable, value })),
            Err(_) => Err(launch(
                variable,
                format!("is {text:?}, expected a whole number"),
            )),
        }
    }

    fn first_number(&self, variables: &[&'static str]) -> Result<Option<Named>> {
        for variable in variables {
            if let Some(named) = self.number(variable)? {
                return Ok(Some(named));
            }
        }
        Ok(None)
    }

    fn world(&self) -> Result<World> {
        let (rank, size) = (self.number("RANK")?, self.number("WORLD_SIZE")?);
        // torchrun deals ranks out by itself, whatever started it.
        let elastic = self.get("TORCHELASTIC_RUN_ID").is_some();
        let launcher = if elastic { None } else { self.launcher()? };
        // A launcher of one process says nothing about those that were started by hand.
        let launcher = launcher.filter(|l| l.size.value > 1 || (rank.is_none() && size.is_none()));
        let (rank, size) = match (&launcher, rank, size) {
            (Some(l), rank, size) => {
                agree(rank, l.rank)?;
                agree(size, l.size)?;
                (l.rank, l.size)
            }
            (None, Some(rank), Some(size)) => (rank, size),
            (None, None, None) => return Ok(World::alone()),
            (None, None, Some(size)) if size.value == 1 => return Ok(World::alone()),
            (None, None, Some(size)) => {
                let why = format!("is {}, but RANK is not set", size.value);
                return Err(launch(size.variable, why));
            }
            (None, Some(rank), None) => {
                let why = format!("is {}, but WORLD_SIZE is not set", rank.value);
                return Err(launch(rank.variable, why));
            }
        };
        if rank.value >= size.value {
            let why = format!(
                "is {}, must be under {}, {}",
                rank.value, size.variable, size.value
            );
            return Err(launch(rank.variable, why));
        }
        let local = match self.number("LOCAL_RANK")? {
            Some(local) => Some(local),
            None => launcher.as_ref().and_then(|l| l.local),
        };
        let local_rank = match local {
            Some(local) if local.value >= size.value => {
                let why = format!(
                    "is {}, must be under {}, {}",
                    local.value, size.variable, size.value
                );
                return Err(launch(local.variable, why));
            }
            Some(local) => local.value,
            None if size.value == 1 => 0,
            None => {
                let why = "is not set, expected which of the processes on its node this is, from 0";
                return Err(launch("LOCAL_RANK", why.into()));
            }
        };
        if size.value == 1 {
            return Ok(World {
                local_rank,
                ..World::alone()
            });
        }
        let host = self.host(launcher.as_ref())?;
        let step = launcher.as_ref().map(|l| l.step);
        let port = self.port(step)?;
        Ok(World {
            rank: rank.value,
            world_size: size.value,
            local_rank,
            address: Some(Address { host, port }),
            job: self.job(step.unwrap_or(false)),
        })
    }

    fn launcher(&self) -> Result<Option<Launcher>> {
        let mpi = [
            (
                "OMPI_COMM_WORLD_RANK",
                "OMPI_COMM_WORLD_SIZE",
                &["OMPI_COMM_WORLD_LOCAL_RANK"][..],
                "OMPI_COMM_WORLD_LOCAL_SIZE",
            ),
            (
                "PMI_RANK",
                "PMI_SIZE",
                &["MPI_LOCALRANKID", "PALS_LOCAL_RANKID"][..],
                "MPI_LOCALNRANKS",
            ),
        ];
        for (rank, size, local, local_size) in mpi {
            match (self.number(rank)?, self.number(size)?) {
                (None, None) => {}
                (Some(rank), Some(size)) => {
                    let (local, local_size) = (self.first_number(local)?, self.number(local_size)?);
                    if local.is_none() && self.get("SLURM_PROCID").is_some() {
                        // `srun --mpi=pmi2` sets them too.
                        break;
                    }
                    return Ok(Some(Launcher {
                        rank,
                        size,
                        local,
                        local_size,
                        step: false,
                    }));
                }
                (Some(there), None) => {
                    let why = format!("is {}, but {size} is not set", there.value);
                    return Err(launch(rank, why));
                }
                (None, Some(there)) => {
                    let why = format!("is {}, but {rank} is not set", there.value);
                    return Err(launch(size, why));
                }
            }
        }
        let Some(rank) = self.number("SLURM_PROCID")? else {
            return Ok(None);
        };
        let tasks = self.number("SLURM_STEP_NUM_TASKS")?;
        let in_step = tasks.is_some()
            || self.get("SLURM_STEP_ID").is_some()
            || self.get("SLURM_STEPID").is_some();
        if !in_step && rank.value == 0 {
            return Ok(None);
        }
        let size = match tasks {
            Some(tasks) => Some(tasks),
            None => self.first_number(&["SLURM_NTASKS", "SLURM_NPROCS"])?,
        };
        let Some(size) = size else {
            let why = format!(
                "is {}, but neither SLURM_STEP_NUM_TASKS nor SLURM_NTASKS is set",
                rank.value
            );
            return Err(launch(rank.variable, why));
        };
        Ok(Some(Launcher {
            rank,
            size,
            local: self.number("SLURM_LOCALID")?,
            local_size: None,
            step: true,
        }))
    }

    fn host(&self, launcher: Option<&Launcher>) -> Result<String> {
        if let Some(host) = self.get("MASTER_ADDR") {
            let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
            return Ok(bare.unwrap_or(&host).to_owned());
        }
        if let Some(launcher) = launcher {
            if launcher.local_size.map(|n| n.value) == Some(launcher.size.value) {
                return Ok("127.0.0.1".into());
            }
            let lists = [
                "SLURM_STEP_NODELIST",
                "SLURM_JOB_NODELIST",
                "SLURM_NODELIST",
            ];
            for variable in &lists[usize::from(!launcher.step)..] {
                if let Some(list) = self.get(variable) {
                    return first_host(&list).map_err(|why| launch(variable, why));
                }
            }
        }
        Err(launch(
            "MASTER_ADDR",
            "is not set, expected the name or address of the host of rank 0".into(),
        ))
    }

    /// `step` is whether the launcher is srun, where there is one.
    fn port(&self, step: Option<bool>) -> Result<u16> {
        if let Some(text) = self.get("MASTER_PORT") {
            let port = text.parse().ok().filter(|&p: &u16| p > 0).ok_or_else(|| {
                launch(
                    "MASTER_PORT",
                    format!("is {text:?}, expected a number from 1 to 65535"),
                )
            })?;
            // Then the agent of torchrun itself listens at MASTER_PORT, for PyTorch's processes to meet there.
            let taken = self
                .get("TORCHELASTIC_USE_AGENT_STORE")
                .is_some_and(|v| v == "True" || v == "1");
            return Ok(match port {
                _ if !taken => port,
                u16::MAX => port - 1,
                _ => port + 1,
            });
        }
        let Some(step) = step else {
            let why = "is not set, expected a free port of the host of rank 0";
            return Err(launch("MASTER_PORT", why.into()));
        };
        let job = self.first_number(&["SLURM_JOB_ID", "SLURM_JOBID"])?;
        let steps = ["SLURM_STEP_ID", "SLURM_STEPID"];
        let step = self.first_number(if step { &steps } else { &[] })?;
        Ok(job.map_or(DEFAULT_PORT, |job| {
            // Below the ports that Linux gives to outgoing connections.
            let n = job.value.wrapping_add(step.map_or(0, |s| s.value));
            10_000 + (n % 20_000) as u16
        }))
    }

    fn job(&self, step: bool) -> String {
        if let Some(run) = self.get("TORCHELASTIC_RUN_ID") {
            let again = self.get("TORCHELASTIC_RESTART_COUNT").unwrap_or_default();
            return format!("torchrun {run} {again}").trim_end().to_owned();
        }
        for variable in ["PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"] {
            if let Some(name) = self.get(variable) {
                return format!("mpirun {name}");
            }
        }
        let step = step.then(|| self.get("SLURM_STEP_ID")).flatten();
        let step = step.unwrap_or_default();
        self.get("SLURM_JOB_ID").map_or_else(String::new, |job| {
            format!("slurm {job} {step}").trim_end().to_owned()
        })
    }
}

fn launch(variable: &str, why: String) -> Error {
    Error::Launch {
        variable: variable.into(),
        why,
    }
}

/// What was set by hand must be what the launcher says.
fn agree(by_hand: Option<Named>, launcher: Named) -> Result<()> {
    match by_hand {
        Some(named) if named.value != launcher.value => Err(launch(
            named.variable,
            format!(
                "is {}, but {} is {}: set both alike, or neither",
                named.value, launcher.variable, launcher.value
            ),
        )),
        _ => Ok(()),
    }
}

/// The first host of a list as Slurm writes it: `node03` of `node[03-05,9],login1`.
fn first_host(list: &str) -> Result<String, String> {
    let malformed = || format!("is {list:?}, expected a list of hosts like \"node[03-05,9]\"");
    let mut host = String::new();
    let mut rest = list;
    loop {
        let Some(at) = rest.find(['[', ']', ',']) else {
            host.push_str(rest);
            break;
        };
        host.push_str(&rest[..at]);
        match rest.as_bytes()[at] {
            b',' => break,
            b'[' => {
                let (group, after) = rest[at + 1..].split_once(']').ok_or_else(malformed)?;
                let first = group.split([',', '-']).next().unwrap_or_default();
                if first.is_empty() || !first.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(malformed());
                }
                host.push_str(first);
                rest = after;
            }
            _ => return Err(malformed()),
        }
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(malformed());
    }
    Ok(host)
}

#[cfg(test)]
mod tests;

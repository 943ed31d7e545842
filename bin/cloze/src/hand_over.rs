//! Training verbs run in `cloze-train`, which lies beside this executable: preparing never loads what training needs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::Context;
use cloze_cli::Status;

/// There is no trainer to hand a verb to.
#[derive(Debug)]
pub struct NoTrainer(PathBuf);

impl std::fmt::Display for NoTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: the trainer is not there", self.0.display())
    }
}

impl std::error::Error for NoTrainer {}

impl NoTrainer {
    pub fn hint(&self) -> String {
        "build both executables with `cargo build --release`, and keep cloze-train beside cloze"
            .into()
    }
}

/// Becomes `cloze-train VERB ARGUMENTS`.
pub fn to_trainer(verb: &str, arguments: &[OsString]) -> anyhow::Result<Status> {
    let trainer = trainer()?;
    let mut command = Command::new(&trainer);
    command.arg(verb).args(arguments);
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        // Only returns where it fails.
        Err(anyhow::Error::new(command.exec()).context(format!("cannot run {}", trainer.display())))
    }
    #[cfg(not(unix))]
    {
        let status = command.status()?;
        std::process::exit(status.code().unwrap_or(2));
    }
}

/// Runs `cloze-train VERB ARGUMENTS` to its end. It says itself what goes wrong.
pub fn trainer_does(verb: &str, arguments: &[&OsStr]) -> anyhow::Result<ExitStatus> {
    let trainer = trainer()?;
    let mut command = Command::new(&trainer);
    let status = command.arg(verb).args(arguments).status();
    status.with_context(|| format!("cannot run {}", trainer.display()))
}

pub fn trainer() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let trainer = own.with_file_name(format!("cloze-train{}", std::env::consts::EXE_SUFFIX));
    if trainer.exists() {
        Ok(trainer)
    } else {
        Err(NoTrainer(trainer).into())
    }
}

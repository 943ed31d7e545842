//! Ctrl-C, SIGTERM, and the SIGHUP of a terminal that is closed: the first asks for an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloze_cli::Status;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// What signals have asked for.
#[derive(Clone, Default)]
pub struct Stop {
    any: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
}

/// Listens to signals from now on.
pub fn on_signals() -> std::io::Result<Stop> {
    let stop = Stop::default();
    // What is started by nohup is to survive its terminal.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
        // Handlers run in the order of their registration: this one sees what the next has set before.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.any))?;
        flag::register(signal, Arc::clone(&stop.any))?;
    }
    flag::register(SIGINT, Arc::clone(&stop.interrupt))?;
    Ok(stop)
}

/// Whether whoever started this process had it ignore a signal; taken to be so where the system does not say.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

impl Stop {
    /// Whether there was a signal.
    pub fn asked(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// How a command ends that did what a signal asked for. A scheduler's SIGTERM was obeyed: that is no failure. A person who typed Ctrl-C means the
    /// script around it, too.
    pub fn status(&self) -> Status {
        match self.interrupt.load(Ordering::Relaxed) {
            true => Status::Interrupted,
            false => Status::Done,
        }
    }
}

//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cloze_cli::Status;
use signal_hook::consts::{SIGINT, SIGTERM};
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
    for signal in [SIGINT, SIGTERM] {
        // Handlers run in the order of their registration: this one sees what the next has set before.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop.any))?;
        flag::register(signal, Arc::clone(&stop.any))?;
    }
    flag::register(SIGINT, Arc::clone(&stop.interrupt))?;
    Ok(stop)
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

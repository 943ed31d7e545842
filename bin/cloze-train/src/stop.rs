//! Ctrl-C, SIGTERM, and the SIGHUP of a terminal that is closed: the first asks for an orderly end, and somebody who insists gets one at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloze_cli::{Status, is_ignored};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How soon after the first signal another is still the same request: a terminal that is closed, `timeout` and many launchers send two or three at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What signals have asked for.
#[derive(Clone, Default)]
pub struct Stop {
    any: Arc<AtomicBool>,
    /// There is something to end in order.
    begun: Arc<AtomicBool>,
    interrupt: Arc<AtomicBool>,
}

/// Listens to signals from now on.
pub fn on_signals() -> std::io::Result<Stop> {
    let stop = Stop::default();
    // What is started by nohup is to survive its terminal.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    let mut signals = Signals::new([SIGINT, SIGTERM].into_iter().chain(hangup))?;
    let told = stop.clone();
    let listen = move || {
        let mut asked = Asked::default();
        for signal in signals.forever() {
            let in_order = told.begun.load(Ordering::Relaxed);
            if asked.insists(signal, Instant::now()) || !in_order {
                // What was begun is given up: files appear by rename, so none is half there.
                signal_hook::low_level::exit(128 + signal);
            }
            if signal == SIGINT {
                told.interrupt.store(true, Ordering::Relaxed);
            }
            told.any.store(true, Ordering::Relaxed);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(listen)?;
    Ok(stop)
}

/// When an orderly end was asked for.
#[derive(Debug, Default)]
struct Asked(Option<Instant>);

impl Asked {
    /// Whether a signal means: now. A terminal's hangup never does: it comes as often as the system likes, and nobody is there who could mean it.
    fn insists(&mut self, signal: i32, now: Instant) -> bool {
        let first = *self.0.get_or_insert(now);
        signal != SIGHUP && now.duration_since(first) > AT_ONCE
    }
}

impl Stop {
    /// From now on there is something to end in order; before, a signal ends the process at once.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_insists_is_told_from_what_comes_together() {
        let begun = Instant::now();
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut asked = Asked::default();
        assert!(!asked.insists(SIGHUP, begun));
        assert!(!asked.insists(SIGHUP, after(30)));
        assert!(!asked.insists(SIGTERM, after(900)));
        assert!(!asked.insists(SIGHUP, after(60_000)));
        assert!(asked.insists(SIGTERM, after(1_100)));
        assert!(asked.insists(SIGINT, after(5_000)));
        assert!(!Asked::default().insists(SIGINT, begun));
    }
}

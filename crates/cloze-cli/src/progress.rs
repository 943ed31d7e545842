//! Progress on standard error: bars on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::format;

/// Seconds between lines where standard error is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// One piece of long work.
pub struct Work {
    name: String,
    unit: Unit,
    total: u64,
    done: AtomicU64,
    /// Of these, done before this work began.
    before: AtomicU64,
    documents: AtomicU64,
    tokens: AtomicU64,
    started: Instant,
    bar: Option<ProgressBar>,
    spoke: Mutex<Instant>,
}

/// What the work is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Shown as MB.
    Bytes,
    /// Shown as a count.
    Things(&'static str),
}

impl Work {
    /// Work of `total` units begins; 0 where nobody knows how many there will be.
    #[must_use]
    pub fn begin(name: &str, unit: Unit, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let length = (total > 0).then_some(total);
            let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr_with_hz(8));
            let style = ProgressStyle::with_template(match length {
                Some(_) => "{prefix:>9} {bar:30} {percent:>3} %  {msg}  {eta} left",
                None => "{prefix:>9} {spinner} {msg}",
            });
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Self {
            name: name.into(),
            unit,
            total,
            done: AtomicU64::new(0),
            before: AtomicU64::new(0),
            documents: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            started: now,
            bar,
            spoke: Mutex::new(now),
        }
    }

    /// That many more units are done.
    pub fn advance(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(self.rates(done));
            }
            None => self.speak(done),
        }
    }

    /// That many units were done at another time: they count for how far it is, not for how fast it goes.
    pub fn was_done(&self, amount: u64) {
        self.before.fetch_add(amount, Ordering::Relaxed);
        self.advance(amount);
        if let Some(bar) = &self.bar {
            bar.reset_eta();
        }
    }

    /// That many more documents and tokens went through.
    pub fn count(&self, documents: u64, tokens: u64) {
        self.documents.fetch_add(documents, Ordering::Relaxed);
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// The work is done: one line stays.
    pub fn end(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let done = self.done.load(Ordering::Relaxed);
        let time = format::duration(self.started.elapsed());
        self.line(&format!("{:>9} {} in {time}", self.name, self.rates(done)));
    }

    fn speak(&self, done: u64) {
        // Whoever finds the lock taken has nothing to add.
        let Ok(mut spoke) = self.spoke.try_lock() else {
            return;
        };
        if spoke.elapsed() >= EVERY {
            *spoke = Instant::now();
            self.line(&self.now(done));
        }
    }

    /// How far it is, and how fast it goes.
    fn now(&self, done: u64) -> String {
        let (name, rates) = (&self.name, self.rates(done));
        match self.total {
            0 => format!("{name:>9} {rates}"),
            total => {
                let share = format::percent(done as f64 / total as f64);
                format!("{name:>9} {share}  {rates}")
            }
        }
    }

    fn rates(&self, done: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let now = done.saturating_sub(self.before.load(Ordering::Relaxed));
        let mut text = match self.unit {
            Unit::Bytes => {
                format!(
                    "{} ({}/s)",
                    format::bytes(done),
                    format::bytes((now as f64 / seconds) as u64)
                )
            }
            Unit::Things(things) => {
                format!(
                    "{} {things} ({}/s)",
                    format::count(done),
                    format::short(now as f64 / seconds)
                )
            }
        };
        for (count, name) in [(&self.documents, "documents"), (&self.tokens, "tokens")] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                text.push_str(&format!(
                    ", {} {name} ({}/s)",
                    format::count(count),
                    format::short(count as f64 / seconds)
                ));
            }
        }
        text
    }

    fn line(&self, text: &str) {
        // Progress that cannot be shown is not worth stopping for.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was done before says nothing of how fast it goes now.
    #[test]
    fn rates_are_of_what_is_done_now() {
        let work = Work {
            bar: None,
            started: Instant::now().checked_sub(Duration::from_secs(10)).unwrap(),
            ..Work::begin("test", Unit::Things("steps"), 1_000)
        };
        work.was_done(900);
        work.advance(50);
        let rates = work.rates(work.done.load(Ordering::Relaxed));
        assert!(
            rates == "950 steps (5/s)" || rates == "950 steps (4/s)",
            "{rates}"
        );
        assert!(work.now(950).starts_with("     test 95.0 %  950 steps"));
    }

    /// Where nobody knows how much there is, no share of it is told.
    #[test]
    fn what_comes_without_a_size_has_no_share() {
        let work = Work::begin("test", Unit::Bytes, 0);
        let now = work.now(3_000_000);
        assert!(
            now.starts_with("     test 3.0 MB (") && !now.contains('%'),
            "{now}"
        );
    }
}

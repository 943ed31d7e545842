//! What a person sees of a run: a log, and on a terminal a panel below it.

mod curve;
mod live;
mod panel;
mod plain;
mod screen;

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use cloze_train::Observer;

use crate::cli::ViewArg;
use crate::stop::Stop;
use live::Live;
use plain::Plain;
pub use plain::validation;

/// Shows a run until it is dropped; the terminal is as it was then.
pub trait View: Observer {
    /// Time since the first step of this process.
    fn elapsed(&self) -> Duration;
}

/// The view of a run of so many steps in folder `run`, by the process of that rank.
pub fn choose<'a>(
    asked: ViewArg,
    rank: usize,
    (steps, hours): (u64, Option<f64>),
    run: &Path,
    stop: &'a Stop,
) -> anyhow::Result<Box<dyn View + 'a>> {
    let terminal = std::io::stderr().is_terminal();
    if asked == ViewArg::Live && !terminal {
        bail!("--view live: standard error is not a terminal; leave it out, or give --view plain");
    }
    let style = terminal && std::env::var_os("NO_COLOR").is_none();
    let term = std::env::var("TERM").unwrap_or_default();
    Ok(if live(asked, terminal, &term) && rank == 0 {
        Box::new(Live::new((steps, hours), style, run, stop)?)
    } else {
        Box::new(Plain::new(steps, style, stop, |text: &str| {
            // A log that cannot be shown is not worth stopping for.
            let _ = writeln!(std::io::stderr(), "{text}");
        }))
    })
}

/// Whether to show a panel; `term` names the terminal.
fn live(asked: ViewArg, terminal: bool, term: &str) -> bool {
    match asked {
        ViewArg::Auto => terminal && !matches!(term, "" | "dumb"),
        ViewArg::Live => terminal,
        ViewArg::Plain => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_needs_a_terminal_that_can() {
        assert!(live(ViewArg::Auto, true, "xterm-256color"));
        assert!(!live(ViewArg::Auto, false, "xterm-256color"));
        assert!(!live(ViewArg::Auto, true, "dumb"));
        assert!(!live(ViewArg::Auto, true, ""));
        assert!(live(ViewArg::Live, true, "dumb"));
        assert!(!live(ViewArg::Plain, true, "xterm"));
    }
}

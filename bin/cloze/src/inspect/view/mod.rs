//! Rows on a terminal, one at a time.
//!
//! [`Viewer`] is all that keys change, [`draw`] all that is seen of it; neither knows a terminal. The loop here is between them and one.

mod draw;
mod find;
mod keys;
mod page;
mod words;

#[cfg(test)]
mod mask_tests;
#[cfg(test)]
mod tests;

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloze_shard::masking::MaskingRule;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::{InspectArgs, Opened, Refused};
use keys::{Flow, Viewer};

/// Time after which signals are looked at.
const TICK: Duration = Duration::from_millis(200);

pub fn run(args: &InspectArgs, opened: &Opened) -> anyhow::Result<()> {
    let rule = MaskingRule {
        rate: args.mask_rate,
        unit: args.mask_unit.into(),
        ..MaskingRule::default()
    };
    opened.split(&args.split)?;
    let mut viewer = Viewer::new(opened, &args.split, rule, args.seed)?;
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(Refused::new(
            "--view: standard input or output is not a terminal",
            "leave out --view; --rows N shows so many rows, --json all of it for a program",
        )
        .into());
    }
    viewer.colours = std::env::var_os("NO_COLOR").is_none();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let mut screen = Screen::open()?;
    while let Flow::Suspend = screen.show(&mut viewer, &stop)? {
        drop(screen);
        #[cfg(unix)]
        signal_hook::low_level::raise(signal_hook::consts::SIGSTOP)?;
        screen = Screen::open()?;
    }
    Ok(())
}

/// The terminal while it is ours. It is as it was when this is gone, also after a panic.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> std::io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| {
            // Half of it may have been done.
            ratatui::restore();
        })
    }

    /// Until the viewer has enough.
    fn show(&mut self, viewer: &mut Viewer<'_>, stop: &AtomicBool) -> std::io::Result<Flow> {
        loop {
            self.0.draw(|frame| draw::draw(viewer, frame))?;
            loop {
                if stop.load(Ordering::Relaxed) {
                    return Ok(Flow::Quit);
                }
                let wait = match viewer.is_looking() {
                    true => Duration::ZERO,
                    false => TICK,
                };
                if event::poll(wait)? {
                    match event::read()? {
                        Event::Key(key) if key.kind != KeyEventKind::Release => {
                            match viewer.press(key) {
                                Flow::On => break,
                                other => return Ok(other),
                            }
                        }
                        Event::Resize(..) => break,
                        _ => {}
                    }
                } else if viewer.is_looking() {
                    viewer.look_on();
                    break;
                }
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

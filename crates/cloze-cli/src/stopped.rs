//! Ctrl-C, SIGTERM, and the SIGHUP of a terminal that is closed, where there is nothing to bring to an end: one line says what is left, and that is all.

use std::io::{IsTerminal, Write};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// From now on a signal ends the process at once, with 128 and the signal's number, as shells have it; what `last` returns is said before.
///
/// `last` is for what is quick: the other threads work on meanwhile.
pub fn when_stopped(last: impl FnOnce() -> String + Send + 'static) -> std::io::Result<()> {
    // What is started by nohup is to survive its terminal, and what a script has in the background its Ctrl-C.
    let all = [SIGINT, SIGTERM, SIGHUP].into_iter();
    let mut signals = Signals::new(all.filter(|&signal| !is_ignored(signal)))?;
    let listen = move || {
        if let Some(signal) = signals.forever().next() {
            let mut err = std::io::stderr();
            // Over the bar that is there.
            let clear = if err.is_terminal() { "\r\x1b[2K" } else { "" };
            let text = format!("stopped: {}", last());
            // Nothing can be done about a standard error that is closed.
            let _ = writeln!(err, "{clear}{}", crate::visible(&text));
            signal_hook::low_level::exit(128 + signal);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(listen)?;
    Ok(())
}

/// Whether whoever started this process had it ignore a signal; taken to be so where the system does not say.
#[must_use]
pub fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|m| u64::from_str_radix(m.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}

//! Exit status and the report of an error.

use std::io::Write;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// 0: done.
    Done,
    /// 1: a check found problems.
    Problems,
    /// 130, as shells have it: Ctrl-C, after what was under way was brought to an end.
    Interrupted,
}

/// Runs `command` and turns what it returns into an exit status: 0 done, 1 a check found problems,
/// 130 interrupted, 2 it could not run.
///
/// An error is printed with what caused it and, where `hint` has one for it, what to do. Standard output that was closed
/// (by `| head`) is no error.
pub fn run(
    command: impl FnOnce() -> anyhow::Result<Status>,
    hint: impl Fn(&anyhow::Error) -> Option<String>,
) -> ExitCode {
    match command() {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Problems) => ExitCode::from(1),
        Ok(Status::Interrupted) => ExitCode::from(130),
        Err(error) if closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = render(&error, hint(&error));
            // Where standard error is closed too, nobody is left to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(2)
        }
    }
}

fn closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn render(error: &anyhow::Error, hint: Option<String>) -> String {
    let mut text = format!("error: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many messages hold their cause already.
        if !said.contains(&cause) {
            text.push_str(&format!("Cause: {cause}\n"));
            said = cause;
        }
    }
    if let Some(hint) = hint {
        text.push_str(&format!("hint: {hint}\n"));
    }
    crate::visible_lines(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_causes_once_and_its_hint() {
        let io = std::io::Error::other("no space");
        let error = anyhow::Error::new(io)
            .context("writing x: no space")
            .context("prepare failed");
        assert_eq!(
            render(&error, Some("free some space".into())),
            "error: prepare failed\nCause: writing x: no space\nhint: free some space\n"
        );
    }

    #[test]
    fn names_of_files_do_not_steer_the_terminal() {
        let error = anyhow::anyhow!("\x1b[2Jx: not there");
        assert_eq!(render(&error, None), "error: \\u{1b}[2Jx: not there\n");
    }
}

//! Other verbs as processes: what they say goes to a log beside their results.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

/// A process did not do what it should.
#[derive(Debug)]
pub struct Failed {
    /// What was run.
    pub command: String,
    /// Its exit status, in words.
    pub status: String,
    /// The end of what it said.
    pub said: String,
    /// All of what it said.
    pub log: PathBuf,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} failed ({}): {}",
            self.command, self.status, self.said
        )
    }
}

impl std::error::Error for Failed {}

impl Failed {
    /// What can be done.
    pub fn hint(&self) -> String {
        format!("all that it said is in {}", self.log.display())
    }
}

/// Somebody asked to stop.
#[derive(Debug)]
pub struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

/// What signals have asked for. A second one ends the process at once.
#[derive(Clone, Default)]
pub struct Signals {
    any: Arc<AtomicBool>,
}

impl Signals {
    /// Listens from now on.
    pub fn listen() -> std::io::Result<Self> {
        let signals = Self::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&signals.any),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&signals.any))?;
        }
        Ok(signals)
    }

    /// Whether there was one.
    pub fn asked(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }
}

/// This executable.
pub fn own() -> anyhow::Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// A process that is to run.
#[derive(Debug)]
pub struct Run {
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
}

/// How often a process is looked at.
const PAUSE: Duration = Duration::from_millis(200);

impl Run {
    /// `program verb`, which says what it says into `log`.
    pub fn new(program: PathBuf, verb: &str, log: PathBuf) -> Self {
        Self {
            program,
            arguments: vec![verb.into()],
            log,
        }
    }

    /// Adds an option with its value.
    pub fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.arguments.push(name.into());
        self.arguments.push(value.as_ref().into());
    }

    /// Adds what stands for itself.
    pub fn values<T: AsRef<OsStr>>(&mut self, values: impl IntoIterator<Item = T>) {
        self.arguments
            .extend(values.into_iter().map(|v| v.as_ref().into()));
    }

    /// As it would be typed.
    pub fn typed(&self) -> String {
        let name = self
            .program
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy();
        let name = name.trim_end_matches("-train");
        let quote = |a: &OsString| {
            let text = a.to_string_lossy();
            match text
                .chars()
                .any(|c| c.is_whitespace() || "'\"*$&|;<>()".contains(c))
            {
                true => format!("'{}'", text.replace('\'', r"'\''")),
                false => text.into_owned(),
            }
        };
        let all: Vec<String> = self.arguments.iter().map(quote).collect();
        format!("{name} {}", all.join(" "))
    }

    /// Runs it with standard error shown as it is, and its table kept for the log. A signal is handed on once.
    pub fn to_its_end(&self, signals: &Signals) -> anyhow::Result<()> {
        let log = self.open_log()?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::inherit());
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let status = wait(child, signals, &mut || ())?;
        match signals.asked() && !status.success() {
            true => Err(Stopped.into()),
            false => self.judge(status),
        }
    }

    /// Runs it quietly; `look` is called now and then while it runs. Standard output is returned. A signal is handed on once.
    pub fn quietly(&self, signals: &Signals, look: &mut dyn FnMut()) -> anyhow::Result<String> {
        let log = self.open_log()?;
        let answer = self.log.with_extension("out");
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stderr(log);
        command.stdout(File::create(&answer).with_context(|| answer.display().to_string())?);
        // A terminal's Ctrl-C is for this process, which hands it on.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let status = wait(child, signals, look)?;
        // A run that was told to stop ends well, too, and need not be done.
        if signals.asked() {
            return Err(Stopped.into());
        }
        self.judge(status)?;
        let text = fs::read_to_string(&answer).with_context(|| answer.display().to_string())?;
        // Nobody reads it again.
        let _ = fs::remove_file(&answer);
        Ok(text)
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let mut log = log.with_context(|| self.log.display().to_string())?;
        writeln!(log, "$ {}", self.typed())?;
        Ok(log)
    }

    fn judge(&self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        let said = last_lines(&self.log);
        let command = self
            .arguments
            .first()
            .map(|v| v.to_string_lossy().into_owned());
        Err(Failed {
            command: format!("cloze {}", command.unwrap_or_default()),
            status: status
                .code()
                .map_or_else(|| status.to_string(), |c| format!("exit status {c}")),
            said: if said.is_empty() {
                "see above".into()
            } else {
                said
            },
            log: self.log.clone(),
        }
        .into())
    }
}

fn wait(
    mut child: Child,
    signals: &Signals,
    look: &mut dyn FnMut(),
) -> std::io::Result<ExitStatus> {
    let mut told = false;
    let mut looked = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if signals.asked() && !told {
            told = true;
            hand_on(&child);
        }
        if looked.elapsed() >= Duration::from_secs(1) {
            looked = Instant::now();
            look();
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(unix)]
fn hand_on(child: &Child) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended just now.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
}

#[cfg(not(unix))]
fn hand_on(_: &Child) {}

/// What an error report at the end of a log says.
fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let from_error = text.rfind("\nerror: ").map(|at| &text[at + 1..]);
    let said = from_error.unwrap_or_default().trim();
    said.trim_start_matches("error: ")
        .replace('\n', "; ")
        .chars()
        .take(600)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, line: &str) -> Run {
        let mut run = Run::new("/bin/sh".into(), "-c", folder.join("log"));
        run.values([line]);
        run
    }

    #[test]
    fn an_error_says_what_the_process_said() {
        let folder = tempfile::tempdir().unwrap();
        let run = shell(
            folder.path(),
            "echo x; echo 'error: no such thing' >&2; echo 'hint: look' >&2; exit 2",
        );
        let error = run.quietly(&Signals::default(), &mut || ()).unwrap_err();
        let failed = error.downcast_ref::<Failed>().unwrap();
        assert_eq!(failed.said, "no such thing; hint: look");
        assert_eq!(failed.status, "exit status 2");
        let log = fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.starts_with("$ sh -c '") && log.contains("no such thing"));
    }

    #[test]
    fn an_answer_is_what_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        let run = shell(folder.path(), "echo 5; echo six >&2");
        assert_eq!(run.quietly(&Signals::default(), &mut || ()).unwrap(), "5\n");
    }

    #[test]
    fn a_signal_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let run = shell(
            folder.path(),
            "trap 'touch stopped; exit 130' TERM; touch ready; while :; do sleep 0.1; done",
        );
        let signals = Signals::default();
        let (ready, stopped) = (folder.path().join("ready"), folder.path().join("stopped"));
        let run = Run {
            arguments: run
                .arguments
                .iter()
                .map(|a| {
                    let text = a
                        .to_string_lossy()
                        .replace("ready", &ready.to_string_lossy());
                    text.replace("stopped", &stopped.to_string_lossy()).into()
                })
                .collect(),
            ..run
        };
        let mut look = || {
            if ready.exists() {
                signals.any.store(true, Ordering::Relaxed);
            }
        };
        let error = run.quietly(&signals, &mut look).unwrap_err();
        assert!(error.is::<Stopped>() && stopped.exists());
    }
}

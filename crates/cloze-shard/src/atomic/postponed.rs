//! Files of unfinished work, which need not be on the disk yet: one that is removed soon never gets there.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::sync_folder;
use crate::{Error, Result};

/// How long a file may be without being on the disk.
const GRACE: Duration = Duration::from_secs(1);

/// Files that have their names, and are made durable a second later, beside the work, unless [`Postponed::end`] comes first.
///
/// A process that is killed loses none of them. Who finds one after the machine itself stopped has to look whether it is whole, by its digest.
#[derive(Clone, Debug, Default)]
pub struct Postponed(Arc<Files>);

#[derive(Debug)]
struct Files {
    grace: Duration,
    settle: Settle,
    /// Where there are files.
    waiting: Mutex<Option<Waiting>>,
}

/// The thread that waits, and what tells it of files.
type Waiting = (Sender<Told>, JoinHandle<Result<()>>);

/// Makes a file durable.
type Settle = fn(&File, &Path) -> Result<()>;

enum Told {
    /// A file, and when it is to be durable.
    File(Instant, File, PathBuf),
    /// None of the files is needed any more.
    End,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            grace: GRACE,
            settle,
            waiting: Mutex::default(),
        }
    }
}

impl Postponed {
    /// How long a file may be without being on the disk.
    pub(super) fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Has `file`, which is at `path` now, made durable later. Where that failed for one that was given before, that is the error.
    pub(super) fn add(&self, file: File, path: &Path) -> Result<()> {
        let mut waiting = self.0.waiting();
        if waiting.as_ref().is_some_and(|(_, t)| t.is_finished()) {
            join(waiting.take())?;
        }
        let (to, _) = match &mut *waiting {
            Some(there) => there,
            none => {
                let ((to, from), settle) = (channel(), self.0.settle);
                let thread = Builder::new().name("to the disk".into());
                match thread.spawn(move || wait(&from, settle)) {
                    Ok(thread) => none.insert((to, thread)),
                    // There are no more threads to be had.
                    Err(_) => return settle(&file, path),
                }
            }
        };
        let told = Told::File(Instant::now() + self.grace(), file, path.into());
        match to.send(told) {
            Ok(()) => Ok(()),
            Err(_) => join(waiting.take()),
        }
    }

    /// None of the files is needed any more. Where one could not be made durable, that is the error: nobody knows what was read of it.
    pub fn end(&self) -> Result<()> {
        let waiting = self.0.waiting().take();
        if let Some((to, _)) = &waiting {
            // It ended by itself where nobody listens.
            let _ = to.send(Told::End);
        }
        join(waiting)
    }
}

impl Files {
    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that stops is kept: its files are made durable now.
impl Drop for Files {
    fn drop(&mut self) {
        // What stopped the work is the error to tell of.
        let _ = join(self.waiting().take());
    }
}

fn join(waiting: Option<Waiting>) -> Result<()> {
    let Some((to, thread)) = waiting else {
        return Ok(());
    };
    drop(to);
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Makes files durable when their time has come, or when nobody is there any more who could say that it is not needed.
fn wait(from: &Receiver<Told>, settle: Settle) -> Result<()> {
    let mut files: VecDeque<(Instant, File, PathBuf)> = VecDeque::new();
    loop {
        let told = match files.front() {
            None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some((until, ..)) => from.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match told {
            Ok(Told::File(until, file, path)) => files.push_back((until, file, path)),
            Ok(Told::End) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {
                if let Some((_, file, path)) = files.pop_front() {
                    settle(&file, &path)?;
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                let mut files = files.iter();
                return files.try_for_each(|(_, file, path)| settle(file, path));
            }
        }
    }
}

fn settle(file: &File, path: &Path) -> Result<()> {
    file.sync_all().map_err(Error::io(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn with(grace: Duration, settle: Settle) -> Postponed {
        let waiting = Mutex::default();
        Postponed(Arc::new(Files {
            grace,
            settle,
            waiting,
        }))
    }

    /// Instead of what makes a file durable: that it was done can be seen.
    fn mark(_: &File, path: &Path) -> Result<()> {
        let marked = path.with_extension("settled");
        fs::write(&marked, "").map_err(Error::io(&marked))
    }

    fn fail(_: &File, path: &Path) -> Result<()> {
        Err(Error::io(path)(std::io::Error::other("the disk is broken")))
    }

    fn add(postponed: &Postponed, path: &Path) -> Result<()> {
        postponed.add(File::create(path).unwrap(), path)
    }

    #[test]
    fn what_is_gone_soon_does_not_get_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| folder.path().join(name));
        let settled = || {
            let marked = |file: &&PathBuf| file.with_extension("settled").exists();
            files.iter().filter(marked).count()
        };
        let postponed = with(LONG, mark);
        for _ in 0..2 {
            files.iter().for_each(|f| add(&postponed, f).unwrap());
            postponed.end().unwrap();
        }
        drop(postponed);
        assert_eq!(settled(), 0);
        // What stays a while does, and so does what nobody ended.
        for (grace, waits) in [(Duration::from_millis(20), true), (LONG, false)] {
            let postponed = with(grace, mark);
            let begun = Instant::now();
            files.iter().for_each(|f| add(&postponed, f).unwrap());
            while waits && settled() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!waits || begun.elapsed() >= grace);
            drop(postponed);
            assert_eq!(settled(), 2);
            let marked = files.iter().map(|f| f.with_extension("settled"));
            marked.for_each(|f| fs::remove_file(f).unwrap());
        }
    }

    #[test]
    fn what_does_not_get_to_the_disk_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let postponed = with(Duration::ZERO, fail);
        add(&postponed, &path).unwrap();
        let error = loop {
            if let Err(error) = add(&postponed, &path) {
                break error;
            }
        };
        assert!(error.to_string().contains("the disk is broken"), "{error}");
        let postponed = with(Duration::ZERO, fail);
        add(&postponed, &path).unwrap();
        let is_over =
            |waiting: &Option<(_, JoinHandle<_>)>| waiting.as_ref().unwrap().1.is_finished();
        while !is_over(&postponed.0.waiting()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(postponed.end().is_err());
        // A file that cannot be made durable, such as a device.
        assert!(settle(&File::open("/dev/null").unwrap(), &path).is_err());
        assert!(settle(&File::create(&path).unwrap(), &path).is_ok());
    }
}

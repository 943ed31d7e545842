//! Files of unfinished work, which need not be on the disk yet: one that is removed soon never gets there.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::sync_folder;
use crate::{Error, Result};

/// How long a file may be without being on the disk. What a machine that fails then loses was made in that time.
const GRACE: Duration = Duration::from_secs(1);

/// Files that have their names, and are made durable a second later, beside the work, unless [`Postponed::end`] comes first.
///
/// A process that is killed loses none of them. Who finds one after the machine itself stopped has to look whether it is whole, by its digest.
#[derive(Clone, Debug, Default)]
pub struct Postponed(Arc<Files>);

#[derive(Debug)]
struct Files {
    grace: Duration,
    /// Makes a file durable.
    settle: fn(&File, &Path) -> Result<()>,
    waiting: Mutex<Vec<Waiting>>,
}

/// What tells the thread of a file that nobody needs it any more, and the thread.
type Waiting = (Sender<()>, JoinHandle<Result<()>>);

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
        let (ended, waits) = waiting.drain(..).partition(|(_, t)| t.is_finished());
        *waiting = waits;
        join(ended)?;
        let (to, from) = channel();
        let own = path.to_path_buf();
        let Files { grace, settle, .. } = *self.0;
        let wait = move || match from.recv_timeout(grace) {
            Ok(()) => Ok(()),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => settle(&file, &own),
        };
        let thread = Builder::new().name("to the disk".into()).spawn(wait);
        waiting.push((to, thread.map_err(Error::io(path))?));
        Ok(())
    }

    /// None of the files is needed any more. Where one could not be made durable, that is the error: nobody knows what was read of it.
    pub fn end(&self) -> Result<()> {
        let waiting = std::mem::take(&mut *self.0.waiting());
        for (to, _) in &waiting {
            // Its second is over where nobody listens.
            let _ = to.send(());
        }
        join(waiting)
    }
}

impl Files {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work that stops is kept: its files are made durable now.
impl Drop for Files {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut *self.waiting());
        let (told, threads): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        drop(told);
        for thread in threads {
            // What stopped the work is the error to tell of.
            let _ = thread.join();
        }
    }
}

fn join(waiting: Vec<Waiting>) -> Result<()> {
    let threads = waiting.into_iter().map(|(_, thread)| thread);
    let ended = threads.map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
    ended.fold(Ok(()), Result::and)
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

    fn with(grace: Duration, settle: fn(&File, &Path) -> Result<()>) -> Postponed {
        let waiting = Mutex::default();
        let files = Files {
            grace,
            settle,
            waiting,
        };
        Postponed(Arc::new(files))
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
            files
                .iter()
                .filter(|f| f.with_extension("settled").exists())
        };
        let postponed = with(LONG, mark);
        files.iter().for_each(|f| add(&postponed, f).unwrap());
        postponed.end().unwrap();
        drop(postponed);
        assert_eq!(settled().count(), 0);
        // What stays a while does, and so does what nobody ended.
        for (grace, waits) in [(Duration::ZERO, true), (LONG, false)] {
            let postponed = with(grace, mark);
            files.iter().for_each(|f| add(&postponed, f).unwrap());
            while waits && settled().count() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(postponed);
            assert_eq!(settled().count(), 2);
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
        while !postponed.0.waiting()[0].1.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(postponed.end().is_err());
        // A file that cannot be made durable, such as a device.
        assert!(settle(&File::open("/dev/null").unwrap(), &path).is_err());
        assert!(settle(&File::create(&path).unwrap(), &path).is_ok());
    }
}

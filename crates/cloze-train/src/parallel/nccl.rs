//! Sums in the memory of GPUs by NCCL; everything else as it is between processes.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cloze_kernels::cuda::driver::current_uuid;
use cloze_kernels::cuda::nccl::{Breaker, Group, Nccl};

use super::{Collective, DeviceCollective, Health, gpus};
use crate::{Error, Result};

/// A collective whose members each have a GPU.
struct OnDevice {
    /// Breaks the group when another rank is lost. Before the group, so that its thread has ended when the group is left.
    _guard: Guard,
    host: Box<dyn Collective>,
    group: Group,
}

/// How often it is asked whether all are still there.
const EVERY: Duration = Duration::from_millis(500);

/// A thread that looks after the group until this is dropped.
struct Guard {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    fn start(health: Health, breaker: Breaker) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                if health().is_err() {
                    return breaker.trip();
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stop.take());
        // It ends by itself, and what it might have said is said by the next call.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// How long ranks wait for one another to join.
const PATIENCE: Duration = Duration::from_secs(300);

/// Adds NCCL to `host`, where every member can load it and has a GPU of its own; otherwise `host` as it was, and why. To be called by all, each with its
/// GPU's context.
///
/// An error has been told to the others already: they do not wait.
pub fn with_nccl(mut host: Box<dyn Collective>) -> Result<(Box<dyn Collective>, Option<String>)> {
    match meet(host.as_mut()) {
        Ok(Ok(group)) => {
            let guard = Guard::start(host.health(), group.breaker());
            let with = OnDevice {
                _guard: guard,
                host,
                group,
            };
            Ok((Box::new(with), None))
        }
        Ok(Err(why)) => Ok((host, Some(why))),
        Err(e) => {
            host.abort(&e);
            Err(e)
        }
    }
}

/// The group of all ranks' GPUs, or why there is none. An error is the host's.
fn meet(host: &mut dyn Collective) -> Result<Result<Group, String>> {
    let loaded = Nccl::load().and_then(|nccl| Ok((nccl, current_uuid()?)));
    let own = loaded.as_ref().map(|(_, uuid)| *uuid);
    let gpus = gpus::distinct(host, own.map_err(ToString::to_string))?;
    let nccl = match (gpus, loaded) {
        (Ok(_), Ok((nccl, _))) => nccl,
        (Err(why), _) => return Ok(Err(why)),
        // Not without an error above.
        (_, Err(e)) => return Ok(Err(e.to_string())),
    };
    let made = match host.rank() {
        0 => nccl.unique_id().map_err(|e| e.to_string()),
        _ => Ok([0; 128]),
    };
    let id = match gpus::from_first(host, made)? {
        Ok(id) => id,
        Err(why) => return Ok(Err(why)),
    };
    let (health, began) = (host.health(), Instant::now());
    let go_on = || health().is_ok() && began.elapsed() < PATIENCE;
    let joined = nccl.join(id, host.rank(), host.world_size(), &go_on);
    // A rank that is lost is why the others cannot join.
    host.check()?;
    gpus::everywhere(host, joined.map_err(|e| e.to_string()))
}

impl DeviceCollective for OnDevice {
    unsafe fn all_reduce_at(&mut self, address: u64, len: usize, stream: u64) -> Result<()> {
        self.host.check()?;
        // SAFETY: the caller's.
        let summed = unsafe { self.group.all_reduce(address, len, stream) };
        // A rank that is lost meanwhile is why the group is broken.
        summed.or_else(|e| self.host.check().and(Err(e.into())))
    }

    fn join(&mut self, stream: u64) -> Result<()> {
        Ok(self.group.join(stream)?)
    }
}

impl Collective for OnDevice {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn world_size(&self) -> usize {
        self.host.world_size()
    }

    fn all_reduce(&mut self, values: &mut [f32]) -> Result<()> {
        self.host.all_reduce(values)
    }

    fn all_reduce_f64(&mut self, values: &mut [f64]) -> Result<()> {
        self.host.all_reduce_f64(values)
    }

    fn broadcast(&mut self, bytes: &mut [u8], root: usize) -> Result<()> {
        self.host.broadcast(bytes, root)
    }

    fn barrier(&mut self) -> Result<()> {
        self.host.barrier()
    }

    fn health(&self) -> Health {
        self.host.health()
    }

    fn abort(&mut self, error: &Error) {
        self.host.abort(error);
        // To leave it in peace would mean to wait for the others.
        self.group.breaker().trip();
    }

    fn on_device(&mut self) -> Option<&mut dyn DeviceCollective> {
        Some(self)
    }

    fn describe(&self) -> String {
        format!("{}; gradients by NCCL", self.host.describe())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::parallel::gpus::tests::ranks;

    /// What others are told of a rank through `host`, which fails in its first call or in none.
    struct Fake {
        fails: bool,
        aborted: Arc<AtomicBool>,
    }

    fn failed() -> Error {
        Error::Rank {
            rank: 1,
            why: "left".into(),
        }
    }

    impl Collective for Fake {
        fn rank(&self) -> usize {
            0
        }
        fn world_size(&self) -> usize {
            2
        }
        fn all_reduce(&mut self, _: &mut [f32]) -> Result<()> {
            Err(failed())
        }
        fn all_reduce_f64(&mut self, _: &mut [f64]) -> Result<()> {
            if self.fails { Err(failed()) } else { Ok(()) }
        }
        fn broadcast(&mut self, _: &mut [u8], _: usize) -> Result<()> {
            Err(failed())
        }
        fn barrier(&mut self) -> Result<()> {
            Ok(())
        }
        fn health(&self) -> Health {
            Box::new(|| Ok(()))
        }
        fn abort(&mut self, error: &Error) {
            assert_eq!(error.to_string(), "rank 1 left");
            self.aborted.store(true, Ordering::SeqCst);
        }
        fn describe(&self) -> String {
            "a fake".into()
        }
    }

    #[test]
    fn the_others_hear_of_an_error() {
        let aborted = Arc::new(AtomicBool::new(false));
        let host = |fails| {
            Box::new(Fake {
                fails,
                aborted: aborted.clone(),
            })
        };
        // The other rank sends zeros: it has nothing.
        let (host_again, why) = with_nccl(host(false)).unwrap();
        assert!(why.is_some() && host_again.describe() == "a fake");
        assert!(!aborted.load(Ordering::SeqCst));
        assert!(with_nccl(host(true)).is_err());
        assert!(aborted.load(Ordering::SeqCst));
    }

    /// A thread that opened no GPU has none: all sum through the host, and say why.
    #[test]
    fn without_gpus_all_keep_the_host() {
        for why in ranks(2, |host, _| Ok(meet(host)?.map(drop).unwrap_err())) {
            assert!(!why.is_empty(), "{why}");
        }
    }
}

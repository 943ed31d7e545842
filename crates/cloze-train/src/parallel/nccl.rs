//! Sums in the memory of GPUs by NCCL; everything else as it is between processes.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use cloze_kernels::cuda::nccl::{Breaker, Group, Nccl};

use super::{Collective, DeviceCollective, Health};
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

/// Adds NCCL to `host`, where every member can load it; otherwise `host` as it was, and why. To be called by all, each with its GPU's context.
pub fn with_nccl(mut host: Box<dyn Collective>) -> Result<(Box<dyn Collective>, Option<String>)> {
    let loaded = Nccl::load();
    let mut have = [f64::from(u8::from(loaded.is_ok()))];
    host.all_reduce_f64(&mut have)?;
    let nccl = match loaded {
        Ok(nccl) if have[0] as usize == host.world_size() => nccl,
        Ok(_) => return Ok((host, Some("another process has no NCCL".into()))),
        Err(e) => return Ok((host, Some(e.to_string()))),
    };
    let mut id = [0; 128];
    if host.rank() == 0 {
        id = nccl.unique_id()?;
    }
    host.broadcast(&mut id, 0)?;
    let group = nccl.join(id, host.rank(), host.world_size())?;
    let guard = Guard::start(host.health(), group.breaker());
    let with = OnDevice {
        _guard: guard,
        host,
        group,
    };
    Ok((Box::new(with), None))
}

impl DeviceCollective for OnDevice {
    unsafe fn all_reduce_at(&mut self, address: u64, len: usize, stream: u64) -> Result<()> {
        self.host.check()?;
        // SAFETY: the caller's.
        Ok(unsafe { self.group.all_reduce(address, len, stream) }?)
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

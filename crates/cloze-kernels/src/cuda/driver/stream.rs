//! What is put on a stream: moments, and recorded sequences.

use cudarc::driver::{result, sys};

use super::failed;
use crate::Result;

/// A recorded sequence, and what runs it.
#[derive(Debug)]
pub struct Graph {
    pub graph: sys::CUgraph,
    pub executable: sys::CUgraphExec,
}

impl Graph {
    /// What runs it.
    pub fn with(mut self, executable: sys::CUgraphExec) -> Self {
        self.executable = executable;
        self
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: each was created once and is destroyed once. The driver keeps what is still running.
        unsafe {
            if !self.executable.is_null() {
                let _ = result::graph::exec_destroy(self.executable);
            }
            if !self.graph.is_null() {
                let _ = result::graph::destroy(self.graph);
            }
        }
    }
}

/// A moment on the stream.
#[derive(Debug)]
pub struct Event(sys::CUevent);

impl Event {
    /// One.
    pub fn new() -> Result<Self> {
        let flags = sys::CUevent_flags::CU_EVENT_DEFAULT;
        result::event::create(flags)
            .map(Self)
            .map_err(failed("cuEventCreate"))
    }

    /// Puts it after all that is on the stream.
    pub fn record(&self, stream: sys::CUstream) -> Result<()> {
        // SAFETY: event and stream live.
        unsafe { result::event::record(self.0, stream) }.map_err(failed("cuEventRecord"))
    }

    /// Makes what is put on `stream` later wait for it.
    pub fn hold(&self, stream: sys::CUstream) -> Result<()> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: event and stream live.
        unsafe { result::stream::wait_event(stream, self.0, flags) }
            .map_err(failed("cuStreamWaitEvent"))
    }

    /// Waits for it; at once where it was never put anywhere.
    pub fn wait(&self) -> Result<()> {
        // SAFETY: the event lives.
        unsafe { result::event::synchronize(self.0) }.map_err(failed("cuEventSynchronize"))
    }

    /// Milliseconds since `start`, once this is reached.
    pub fn since(&self, start: &Self) -> Result<f64> {
        self.wait()?;
        // SAFETY: both were recorded.
        let ms = unsafe { result::event::elapsed(start.0, self.0) };
        ms.map(f64::from).map_err(failed("cuEventElapsedTime"))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: destroyed once; the driver waits for what still uses it.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}

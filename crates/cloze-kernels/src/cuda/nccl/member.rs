//! A membership of a group, none of whose calls lasts.
//!
//! NCCL waits for a lost rank for ever. So the communicator is one that does not block: a call says at once that it is under way, and is asked how
//! it goes until it is through. Between two questions anybody may break the group.

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::UniqueId;
use crate::cuda::machine::Address;
use crate::{Error, Result};

/// `ncclComm_t`.
pub type Comm = *mut c_void;

/// Of `ncclResult_t`.
pub const SUCCESS: c_int = 0;
/// As above.
pub const IN_PROGRESS: c_int = 7;

/// How long whoever breaks a group waits for a call to return, which does so at once unless the GPU takes no more work.
const GRACE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });
/// How long it is asked without a pause how a call goes: most are through at once.
const AT_ONCE: Duration = Duration::from_millis(1);
/// And how long the pauses are then.
const PAUSE: Duration = Duration::from_micros(200);

/// NCCL's calls that a membership is made of; each gives an `ncclResult_t`. Only [`Member`] calls them: with what `join` gave, until it is ended.
pub trait Calls {
    /// `ncclCommInitRankConfig`, of a communicator that does not block.
    fn join(&self, comm: &mut Comm, id: &UniqueId, rank: usize, world_size: usize) -> c_int;
    /// `ncclCommGetAsyncError`.
    fn state(&self, comm: Comm, state: &mut c_int) -> c_int;
    /// `ncclAllReduce` of single-precision numbers in place.
    ///
    /// # Safety
    /// As for [`Member::sum`].
    unsafe fn sum(&self, comm: Comm, at: Address, len: usize, stream: *mut c_void) -> c_int;
    /// `ncclCommFinalize`.
    fn finalize(&self, comm: Comm) -> c_int;
    /// `ncclCommDestroy`.
    fn destroy(&self, comm: Comm) -> c_int;
    /// `ncclCommAbort`.
    fn abort(&self, comm: Comm) -> c_int;
    /// `ncclGetErrorString`.
    fn text(&self, code: c_int) -> String;
}

/// One rank's membership.
#[derive(Debug)]
pub struct Member<C: Calls> {
    calls: C,
    /// Null once it has ended. Whoever makes it null ends it.
    comm: AtomicPtr<c_void>,
    /// Held during a call that uses the communicator.
    inside: Mutex<()>,
}

impl<C: Calls> Member<C> {
    /// Joins the group of `id`; returns when all have, or with an error once `go_on` says no.
    pub fn join(
        calls: C,
        id: &UniqueId,
        rank: usize,
        world_size: usize,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Self> {
        let mut comm = null_mut();
        let code = calls.join(&mut comm, id, rank, world_size);
        let member = Self {
            calls,
            comm: AtomicPtr::new(comm),
            inside: Mutex::new(()),
        };
        match member.settle("ncclCommInitRankConfig", code, go_on) {
            Ok(()) => Ok(member),
            Err(e) => {
                member.abort();
                Err(e)
            }
        }
    }

    /// Puts the sums of `len` numbers at `at` in their place, after all that is on `stream`; returns when they are on it.
    ///
    /// # Safety
    /// The numbers must lie in the GPU's memory, nobody else may use them until what is on the stream is done, and it must be the GPU's.
    pub unsafe fn sum(&self, at: Address, len: usize, stream: *mut c_void) -> Result<()> {
        const CALL: &str = "ncclAllReduce";
        // SAFETY: the caller's.
        let code = self.call(CALL, |comm| unsafe {
            self.calls.sum(comm, at, len, stream)
        })?;
        self.settle(CALL, code, &|| true)
    }

    /// Ends it where it has not ended: sums that are under way end, whatever they hold then, and later calls fail. From any thread.
    pub fn abort(&self) {
        // From here on every call finds none, so only one that is inside already has it.
        let comm = self.comm.swap(null_mut(), Ordering::AcqRel);
        if comm.is_null() {
            return;
        }
        let until = Instant::now() + GRACE;
        // Whoever is inside then waits for the GPU, which waits for a lost rank: only NCCL itself can end that, and lets another thread do it.
        let _outside = loop {
            match self.inside.try_lock() {
                Ok(guard) => break Some(guard),
                Err(TryLockError::Poisoned(e)) => break Some(e.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => break None,
                Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            }
        };
        let _ = self.calls.abort(comm);
    }

    /// Ends it in peace, if all others do so within `patience`; otherwise as [`abort`](Self::abort).
    pub fn leave(&self, patience: Duration) {
        const CALL: &str = "ncclCommFinalize";
        let until = Instant::now() + patience;
        let left = self
            .call(CALL, |comm| self.calls.finalize(comm))
            .and_then(|code| self.settle(CALL, code, &|| Instant::now() < until));
        if left.is_err() {
            return self.abort();
        }
        let _inside = self.enter();
        let comm = self.comm.swap(null_mut(), Ordering::AcqRel);
        if !comm.is_null() {
            let _ = self.calls.destroy(comm);
        }
    }

    fn enter(&self) -> MutexGuard<'_, ()> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that uses the communicator.
    fn call(&self, name: &str, call: impl FnOnce(Comm) -> c_int) -> Result<c_int> {
        let _inside = self.enter();
        let comm = self.comm.load(Ordering::Acquire);
        if comm.is_null() {
            return Err(broken(name));
        }
        Ok(call(comm))
    }

    /// Returns when a call is through that gave `code`, or has failed, or `go_on` says no.
    fn settle(&self, name: &str, code: c_int, go_on: &dyn Fn() -> bool) -> Result<()> {
        let began = Instant::now();
        let mut code = code;
        loop {
            match code {
                SUCCESS => return Ok(()),
                IN_PROGRESS if !go_on() => return Err(broken(name)),
                IN_PROGRESS => {}
                failed => {
                    return Err(Error::Cuda {
                        call: name.to_owned(),
                        why: self.calls.text(failed),
                    });
                }
            }
            if began.elapsed() < AT_ONCE {
                std::thread::yield_now();
            } else {
                std::thread::sleep(PAUSE);
            }
            code = self.call(name, |comm| {
                let mut state = IN_PROGRESS;
                match self.calls.state(comm, &mut state) {
                    SUCCESS => state,
                    failed => failed,
                }
            })?;
        }
    }
}

fn broken(name: &str) -> Error {
    Error::Cuda {
        call: name.to_owned(),
        why: "the group is broken".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// NCCL as it might behave.
    #[derive(Debug, Default)]
    struct Fake {
        /// What each call gives, by name; success where nothing is said.
        codes: Vec<(&'static str, c_int)>,
        /// Questions until what is under way is through; for ever where it is `usize::MAX`.
        questions: usize,
        /// What it comes to then.
        outcome: c_int,
        /// Makes `sum` wait inside, until it is aborted.
        stuck: bool,
        asked: AtomicUsize,
        aborted: AtomicBool,
        made: Mutex<Vec<&'static str>>,
    }

    impl Fake {
        fn say(&self, name: &'static str) -> c_int {
            self.made.lock().unwrap().push(name);
            self.asked.store(0, Ordering::SeqCst);
            let said = self.codes.iter().find(|(n, _)| *n == name);
            said.map_or(SUCCESS, |(_, code)| *code)
        }
    }

    impl Calls for Arc<Fake> {
        fn join(&self, comm: &mut Comm, _: &UniqueId, _: usize, _: usize) -> c_int {
            *comm = 8 as Comm;
            self.say("join")
        }
        fn state(&self, comm: Comm, state: &mut c_int) -> c_int {
            assert!(!comm.is_null() && !self.aborted.load(Ordering::SeqCst));
            if self.asked.fetch_add(1, Ordering::SeqCst) >= self.questions {
                *state = self.outcome;
            }
            SUCCESS
        }
        unsafe fn sum(&self, _: Comm, _: Address, _: usize, _: *mut c_void) -> c_int {
            let code = self.say("sum");
            while self.stuck && !self.aborted.load(Ordering::SeqCst) {
                std::thread::sleep(PAUSE);
            }
            code
        }
        fn finalize(&self, _: Comm) -> c_int {
            self.say("finalize")
        }
        fn destroy(&self, _: Comm) -> c_int {
            self.say("destroy")
        }
        fn abort(&self, comm: Comm) -> c_int {
            assert_eq!(comm, 8 as Comm);
            self.aborted.store(true, Ordering::SeqCst);
            self.say("abort")
        }
        fn text(&self, code: c_int) -> String {
            format!("error {code}")
        }
    }

    fn under_way(name: &'static str, questions: usize) -> Fake {
        Fake {
            codes: vec![(name, IN_PROGRESS)],
            questions,
            ..Fake::default()
        }
    }

    fn join(fake: &Arc<Fake>, go_on: &dyn Fn() -> bool) -> Result<Member<Arc<Fake>>> {
        Member::join(fake.clone(), &[0; 128], 0, 2, go_on)
    }

    fn sum(member: &Member<Arc<Fake>>) -> Result<()> {
        // SAFETY: a fake one touches no memory.
        unsafe { member.sum(0, 0, null_mut()) }
    }

    fn made(fake: &Fake) -> Vec<&'static str> {
        fake.made.lock().unwrap().clone()
    }

    #[test]
    fn it_asks_until_a_call_is_through() {
        for questions in [0, 1, 20] {
            let fake = Arc::new(under_way("join", questions));
            let member = join(&fake, &|| true).unwrap();
            assert_eq!(fake.asked.load(Ordering::SeqCst), questions + 1);
            sum(&member).unwrap();
            member.leave(Duration::from_secs(5));
            assert_eq!(made(&fake), ["join", "sum", "finalize", "destroy"]);
            assert!(
                sum(&member).is_err(),
                "nothing is done with what was destroyed"
            );
            member.abort();
            assert_eq!(made(&fake).len(), 4, "it ends once");
        }
    }

    #[test]
    fn what_fails_at_once_or_later_is_an_error() {
        let at_once = Arc::new(Fake {
            codes: vec![("join", 3)],
            ..Fake::default()
        });
        let later = Arc::new(Fake {
            outcome: 6,
            ..under_way("join", 3)
        });
        for (fake, code) in [(at_once, 3), (later, 6)] {
            let text = join(&fake, &|| true).unwrap_err().to_string();
            assert_eq!(text, format!("ncclCommInitRankConfig failed: error {code}"));
            assert_eq!(made(&fake), ["join", "abort"]);
        }
        let fake = Arc::new(Fake {
            codes: vec![("sum", 2)],
            ..Fake::default()
        });
        let error = sum(&join(&fake, &|| true).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "ncclAllReduce failed: error 2");
    }

    #[test]
    fn joining_ends_when_it_is_told_to() {
        let fake = Arc::new(under_way("join", usize::MAX));
        let left = AtomicUsize::new(10);
        let go_on = || left.fetch_sub(1, Ordering::SeqCst) > 0;
        let error = join(&fake, &go_on).unwrap_err();
        assert!(error.to_string().contains("broken"), "{error}");
        assert_eq!(made(&fake), ["join", "abort"]);
    }

    /// A sum that others never join, in NCCL's background and inside its call: whoever waits for it is let go.
    #[test]
    fn breaking_lets_a_waiting_thread_go() {
        let background = under_way("sum", usize::MAX);
        let inside = Fake {
            stuck: true,
            ..Fake::default()
        };
        for fake in [background, inside] {
            let fake = Arc::new(fake);
            let member = join(&fake, &|| true).unwrap();
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| sum(&member));
                while made(&fake).len() < 2 {
                    std::thread::sleep(PAUSE);
                }
                std::thread::sleep(20 * PAUSE);
                let began = Instant::now();
                member.abort();
                let waited = waits.join().unwrap();
                assert!(fake.stuck || waited.is_err());
                assert!(began.elapsed() < GRACE + Duration::from_secs(2));
            });
            let error = sum(&member).unwrap_err();
            assert!(error.to_string().contains("broken"), "{error}");
            assert_eq!(made(&fake), ["join", "sum", "abort"]);
        }
    }

    #[test]
    fn who_is_not_left_in_peace_aborts() {
        let fake = Arc::new(under_way("finalize", usize::MAX));
        let member = join(&fake, &|| true).unwrap();
        let began = Instant::now();
        member.leave(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
        assert_eq!(made(&fake), ["join", "finalize", "abort"]);
    }
}

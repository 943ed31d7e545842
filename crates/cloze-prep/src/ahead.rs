//! Work that all threads do ahead of the one that asks for it and takes what comes of it, in order.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rayon::ScopeFifo;

/// How long another thread may be busy before this one does what it would leave to that.
const SOON: Duration = Duration::from_millis(1);

/// What is worked on, the oldest first.
///
/// The thread that holds it decides how much that is, by [`Ahead::weight`], and works, too, while it waits.
pub struct Ahead<'s, R> {
    begun: VecDeque<(Receiver<R>, usize)>,
    weight: usize,
    /// How many were taken.
    taken: u64,
    queue: Arc<Mutex<Queue<'s>>>,
}

/// What no thread works on yet.
#[derive(Default)]
struct Queue<'s> {
    jobs: VecDeque<Job<'s>>,
    weight: usize,
    /// Threads that were called to take one each, and did not come yet: as many as there are jobs, or more.
    called: usize,
}

struct Job<'s> {
    number: u64,
    weight: usize,
    run: Box<dyn FnOnce() + Send + 's>,
}

impl<'s, R: Send + 's> Ahead<'s, R> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self {
            begun: VecDeque::new(),
            weight: 0,
            taken: 0,
            queue: Arc::default(),
        }
    }

    /// Of what was begun and not taken.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Of the heaviest of it.
    pub fn heaviest(&self) -> usize {
        let weights = self.begun.iter().map(|(_, weight)| *weight);
        weights.max().unwrap_or(0)
    }

    /// Of what no thread works on yet.
    pub fn queued(&self) -> usize {
        locked(&self.queue).weight
    }

    /// Has a thread do `work`, after what was begun before it.
    pub fn begin(
        &mut self,
        scope: &ScopeFifo<'s>,
        weight: usize,
        work: impl FnOnce() -> R + Send + 's,
    ) {
        let (to, from) = sync_channel(1);
        let job = Job {
            number: self.taken + self.begun.len() as u64,
            weight,
            run: Box::new(move || {
                // Nobody waits for it any more where the thread that asked has failed.
                let _ = to.send(work());
            }),
        };
        self.begun.push_back((from, weight));
        self.weight += weight;
        if !locked(&self.queue).push(job) {
            return;
        }
        let queue = Arc::clone(&self.queue);
        scope.spawn_fifo(move |_| {
            let job = locked(&queue).called();
            job.into_iter().for_each(|job| (job.run)());
        });
    }

    /// What came of the oldest, if it is done. Where it panicked, this thread does, too.
    pub fn done(&mut self) -> Option<R> {
        let result = match self.begun.front()?.0.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => panicked(),
        };
        self.forget_first();
        Some(result)
    }

    /// What came of the oldest, when it is done; `None` where nothing is begun. Where it panicked, this thread does, too.
    pub fn wait(&mut self) -> Option<R> {
        self.wait_with(|_, _| true)
    }

    /// As [`Ahead::wait`], but this thread, which has more to ask for, works on nothing that takes so long that the others have nothing left to do.
    pub fn wait_lightly(&mut self) -> Option<R> {
        let others = rayon::current_num_threads() - 1;
        self.wait_with(|weight, left| weight.saturating_mul(others) <= left)
    }

    /// `works` says whether this thread may begin a job of some weight, which leaves some.
    fn wait_with(&mut self, works: impl Fn(usize, usize) -> bool) -> Option<R> {
        let (from, _) = self.begun.front()?;
        let mut is_left = true;
        let result = loop {
            match from.try_recv() {
                Ok(result) => break result,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => panicked(),
            }
            let mut queue = locked(&self.queue);
            let is_next = queue.jobs.front().is_some_and(|j| j.number == self.taken);
            let job = queue.take(|weight, left| works(weight, left) || is_next && !is_left);
            drop(queue);
            match job {
                Some(job) => (job.run)(),
                // Another thread has it.
                None if !is_next => break from.recv().unwrap_or_else(|_| panicked()),
                // Another thread takes it soon, or else this one does: no two threads wait for each other.
                None => match from.recv_timeout(SOON) {
                    Ok(result) => break result,
                    Err(RecvTimeoutError::Timeout) => is_left = false,
                    Err(RecvTimeoutError::Disconnected) => panicked(),
                },
            }
        };
        self.forget_first();
        Some(result)
    }

    fn forget_first(&mut self) {
        let weight = self.begun.pop_front().map_or(0, |(_, weight)| weight);
        self.weight -= weight;
        self.taken += 1;
    }
}

impl<'s> Queue<'s> {
    /// Whether a thread has to be called for it.
    fn push(&mut self, job: Job<'s>) -> bool {
        self.weight += job.weight;
        self.jobs.push_back(job);
        let is_called = self.called < self.jobs.len();
        self.called += usize::from(is_called);
        is_called
    }

    /// The first job, for a thread that was called.
    fn called(&mut self) -> Option<Job<'s>> {
        self.called -= 1;
        self.take(|_, _| true)
    }

    /// The first job of whose weight and of what it leaves `is_taken` is true.
    fn take(&mut self, is_taken: impl Fn(usize, usize) -> bool) -> Option<Job<'s>> {
        let mut jobs = self.jobs.iter();
        let i = jobs.position(|job| is_taken(job.weight, self.weight - job.weight))?;
        let job = self.jobs.remove(i)?;
        self.weight -= job.weight;
        Some(job)
    }
}

/// Nothing is taken of what comes after work that panicked; its scope goes on with the panic itself.
fn panicked() -> ! {
    std::panic::resume_unwind(Box::new("work that was asked for panicked"))
}

/// A job runs when its queue is not locked, so a panic leaves that whole.
fn locked<'a, 's>(queue: &'a Mutex<Queue<'s>>) -> MutexGuard<'a, Queue<'s>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn pool(threads: usize) -> rayon::ThreadPool {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap()
    }

    /// Whoever does it, and however long it takes.
    #[test]
    fn results_come_in_order_and_no_more_is_begun_than_was_asked_for() {
        for threads in [1, 2, 5] {
            let mut taken = Vec::new();
            pool(threads).install(|| {
                rayon::in_place_scope_fifo(|scope| {
                    let (mut ahead, mut next) = (Ahead::new(), 0..200_u64);
                    assert!(ahead.done().is_none() && ahead.wait().is_none());
                    loop {
                        taken.extend(std::iter::from_fn(|| ahead.done()));
                        if ahead.weight() >= 12 {
                            taken.extend(ahead.wait_lightly());
                        } else if let Some(i) = next.next() {
                            ahead.begin(scope, 3, move || {
                                std::thread::sleep(Duration::from_micros(i * 37 % 400));
                                i
                            });
                            assert!(ahead.weight() <= 14 && ahead.heaviest() == 3);
                        } else {
                            break;
                        }
                    }
                    taken.extend(std::iter::from_fn(|| ahead.wait()));
                    assert_eq!((ahead.weight(), ahead.queued()), (0, 0));
                });
            });
            assert!(taken.iter().copied().eq(0..200), "{threads}: {taken:?}");
        }
    }

    /// While another thread works on the oldest, this one works on the rest, but who asks for more begins nothing that would leave the other without work.
    #[test]
    fn long_work_is_left_to_the_others() {
        for (lightly, expected) in [(true, [1, 3, 0, 2]), (false, [1, 2, 3, 0])] {
            let order = Mutex::new(Vec::new());
            pool(2).install(|| {
                let (begins, begun) = sync_channel(1);
                let (ends, ended) = sync_channel(1);
                rayon::in_place_scope_fifo(|scope| {
                    let (order, mut ahead) = (&order, Ahead::new());
                    ahead.begin(scope, 5, move || {
                        begins.send(()).unwrap();
                        ended.recv_timeout(Duration::from_secs(30)).unwrap();
                        order.lock().unwrap().push(0);
                    });
                    begun.recv().unwrap();
                    for (i, weight) in [(1, 1), (2, 9), (3, 2)] {
                        let ends = ends.clone();
                        ahead.begin(scope, weight, move || {
                            order.lock().unwrap().push(i);
                            if i == 3 {
                                ends.send(()).unwrap();
                            }
                        });
                    }
                    while let Some(()) = match lightly {
                        true => ahead.wait_lightly(),
                        false => ahead.wait(),
                    } {}
                });
            });
            assert_eq!(order.into_inner().unwrap(), expected);
        }
    }

    /// Threads that wait each for what it asked for do not wait for each other.
    #[test]
    fn threads_ask_at_the_same_time() {
        pool(2).install(|| {
            let ask = |most: usize| {
                rayon::in_place_scope_fifo(|scope| {
                    let (mut ahead, mut sum) = (Ahead::new(), 0);
                    for i in 1..=200 {
                        while ahead.weight() >= most {
                            sum += ahead.wait_lightly().unwrap();
                        }
                        ahead.begin(scope, 1, move || i);
                    }
                    sum + std::iter::from_fn(|| ahead.wait()).sum::<u32>()
                })
            };
            for most in [1, 2, 9] {
                assert_eq!(rayon::join(|| ask(most), || ask(1)), (20_100, 20_100));
            }
        });
    }

    /// However much one thread does by itself, no more others are called than there is work for.
    #[test]
    fn no_more_is_called_than_there_is_to_do() {
        pool(1).install(|| {
            rayon::in_place_scope_fifo(|scope| {
                let mut ahead = Ahead::new();
                for i in 0..1_000 {
                    ahead.begin(scope, 1, move || i);
                    if ahead.weight() == 3 {
                        assert_eq!(ahead.wait(), Some(i - 2));
                    }
                }
                assert_eq!(locked(&ahead.queue).called, 3);
            });
        });
    }

    /// What a thread asks for after work that panicked, it does not get.
    #[test]
    fn a_panic_is_no_end() {
        for threads in [1, 3] {
            let taken = AtomicU32::new(0);
            let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
                pool(threads).install(|| {
                    rayon::in_place_scope_fifo(|scope| {
                        let mut ahead = Ahead::new();
                        for i in 0..40 {
                            ahead.begin(scope, 1, move || assert_ne!(i, 20, "the twentieth"));
                        }
                        while ahead.done().or_else(|| ahead.wait()).is_some() {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
            }));
            assert!(ended.is_err());
            assert!(taken.into_inner() <= 20);
        }
    }

    #[test]
    fn what_was_begun_is_done_even_where_nobody_takes_it() {
        let done = AtomicU32::new(0);
        pool(2).in_place_scope_fifo(|scope| {
            let mut ahead = Ahead::new();
            for _ in 0..20 {
                ahead.begin(scope, 1, || done.fetch_add(1, Ordering::Relaxed));
            }
            assert!(ahead.wait().is_some());
        });
        assert_eq!(done.into_inner(), 20);
    }
}

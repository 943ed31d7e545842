//! Work that all threads do ahead of the one that asks for it and takes what comes of it, in order.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::ScopeFifo;

/// What is worked on, the oldest first.
///
/// The thread that holds it decides how much that is, by [`Ahead::weight`]. It works, too, while it waits, but on nothing that takes so long that the others would have nothing left.
pub struct Ahead<'s, R> {
    begun: VecDeque<(Receiver<R>, usize)>,
    weight: usize,
    queue: Arc<Mutex<Queue<'s>>>,
    threads: usize,
}

/// What no thread has begun yet.
#[derive(Default)]
struct Queue<'s> {
    jobs: VecDeque<(Box<dyn FnOnce() + Send + 's>, usize)>,
    weight: usize,
}

impl<'s, R: Send + 's> Ahead<'s, R> {
    /// Nothing, for the threads of the pool that this one belongs to.
    pub fn new() -> Self {
        Self {
            begun: VecDeque::new(),
            weight: 0,
            queue: Arc::default(),
            threads: rayon::current_num_threads(),
        }
    }

    /// Of what was begun and not taken.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// Has a thread do `work`, after what was begun before it.
    pub fn begin(
        &mut self,
        scope: &ScopeFifo<'s>,
        weight: usize,
        work: impl FnOnce() -> R + Send + 's,
    ) {
        let (to, from) = sync_channel(1);
        let job = Box::new(move || {
            // Nobody waits for it any more where the thread that asked has failed.
            let _ = to.send(work());
        });
        self.begun.push_back((from, weight));
        self.weight += weight;
        locked(&self.queue).push(job, weight);
        let queue = Arc::clone(&self.queue);
        scope.spawn_fifo(move |_| {
            let job = locked(&queue).take(0);
            job.into_iter().for_each(|job| job());
        });
    }

    /// What came of the oldest, if it is done.
    pub fn done(&mut self) -> Option<R> {
        let result = self.begun.front()?.0.try_recv().ok()?;
        self.forget_first();
        Some(result)
    }

    /// What came of the oldest, when it is done. `None` where nothing is begun, or where the work panicked, which its scope tells of.
    pub fn wait(&mut self) -> Option<R> {
        self.wait_with(self.threads - 1)
    }

    /// As [`Ahead::wait`], when nothing more will be begun.
    pub fn last(&mut self) -> Option<R> {
        self.wait_with(0)
    }

    fn wait_with(&mut self, others: usize) -> Option<R> {
        let (from, _) = self.begun.front()?;
        let result = loop {
            match from.try_recv() {
                Err(TryRecvError::Empty) => {}
                done => break done.ok(),
            }
            let job = locked(&self.queue).take(others);
            match job {
                Some(job) => job(),
                // The others have it, or will.
                None => break from.recv().ok(),
            }
        };
        self.forget_first();
        result
    }

    fn forget_first(&mut self) {
        let weight = self.begun.pop_front().map_or(0, |(_, weight)| weight);
        self.weight -= weight;
    }
}

impl<'s> Queue<'s> {
    fn push(&mut self, job: Box<dyn FnOnce() + Send + 's>, weight: usize) {
        self.jobs.push_back((job, weight));
        self.weight += weight;
    }

    /// The first job that leaves as much to each of so many `others`.
    fn take(&mut self, others: usize) -> Option<Box<dyn FnOnce() + Send + 's>> {
        let leaves_enough =
            |&(_, weight): &(_, usize)| weight.saturating_mul(others) <= self.weight - weight;
        let i = self.jobs.iter().position(leaves_enough)?;
        let (job, weight) = self.jobs.remove(i)?;
        self.weight -= weight;
        Some(job)
    }
}

/// A job runs when its queue is not locked, so a panic leaves that whole.
fn locked<'a, 's>(queue: &'a Mutex<Queue<'s>>) -> std::sync::MutexGuard<'a, Queue<'s>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

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
            pool(threads).in_place_scope_fifo(|scope| {
                let (mut ahead, mut next) = (Ahead::new(), 0..200_u64);
                assert!(ahead.done().is_none() && ahead.wait().is_none());
                loop {
                    taken.extend(std::iter::from_fn(|| ahead.done()));
                    if ahead.weight() >= 12 {
                        taken.extend(ahead.wait());
                    } else if let Some(i) = next.next() {
                        ahead.begin(scope, 3, move || {
                            std::thread::sleep(Duration::from_micros(i * 37 % 400));
                            i
                        });
                        assert!(ahead.weight() <= 14);
                    } else {
                        break;
                    }
                }
                taken.extend(std::iter::from_fn(|| ahead.last()));
                assert_eq!(ahead.weight(), 0);
            });
            assert!(taken.iter().copied().eq(0..200), "{threads}: {taken:?}");
        }
    }

    /// Who takes results does not begin what would leave the others without work, unless there is none to come.
    #[test]
    fn long_work_is_left_to_the_others() {
        let order = |others: usize| {
            let mut queue = Queue::default();
            let ran = Arc::new(AtomicU32::new(0));
            for weight in [5, 1, 9, 2] {
                let ran = Arc::clone(&ran);
                let job = move || ran.store(weight as u32, Ordering::Relaxed);
                queue.push(Box::new(job), weight);
            }
            let mut order = Vec::new();
            while let Some(job) = queue.take(others) {
                job();
                order.push(ran.load(Ordering::Relaxed));
            }
            order
        };
        assert_eq!(order(0), [5, 1, 9, 2]);
        assert_eq!(order(1), [5, 1, 2]);
        assert_eq!(order(3), [1, 2]);
        assert_eq!(order(9), [1]);
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

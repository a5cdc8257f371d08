//! A queue that runs jobs off the caller's thread, in the order in which they came.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::runtime;

/// How long [`Lane::drain`] sleeps between two looks.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// Runs jobs one batch after another on a background thread.
///
/// The jobs that have come while a batch ran make up the next one, so that they can share a lock, a write or a sync.
pub struct Lane<J> {
    queue: Mutex<Queue<J>>,
    largest_batch: usize,
    run: Box<dyn Fn(Vec<J>) + Send + Sync>,
}

struct Queue<J> {
    waiting: VecDeque<J>,
    /// Whether a thread works for this lane, which then looks for more.
    has_worker: bool,
    /// Whether a batch has begun and is not done.
    is_running: bool,
}

type Telling = Box<dyn FnOnce()>;

thread_local! {
    /// What is to be told once the present batch is done; `None` on a thread that runs none.
    static AFTERWARDS: RefCell<Option<Vec<Telling>>> = const { RefCell::new(None) };
}

/// Runs `tell` once the batch that this thread runs is done, or at once if it runs none.
///
/// An answer may have its caller come back before the thread that gave it gets on. That caller must not find its own
/// job still in the way: it would come by the lane again, and so would the one after it.
pub fn afterwards(tell: impl FnOnce() + 'static) {
    let at_once = AFTERWARDS.with_borrow_mut(|afterwards| match afterwards {
        Some(afterwards) => {
            afterwards.push(Box::new(tell));
            None
        }
        None => Some(tell),
    });
    if let Some(tell) = at_once {
        tell();
    }
}

impl<J: Send + 'static> Lane<J> {
    /// A lane whose batches, of up to `largest_batch` jobs, are run by `run`. If that panics, the batch is dropped.
    pub fn new(largest_batch: usize, run: impl Fn(Vec<J>) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), has_worker: false, is_running: false }),
            largest_batch,
            run: Box::new(run),
        })
    }

    /// Whether nothing waits and nothing runs: only then may work be done outside of the lane without overtaking.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Appends a job.
    pub fn push(self: &Arc<Self>, job: J) {
        let mut queue = self.lock();
        queue.waiting.push_back(job);
        if !queue.has_worker {
            queue.has_worker = true;
            let lane = Arc::clone(self);
            runtime().spawn_blocking(move || lane.work());
        }
    }

    /// Waits until nothing is left to do, or until no job was started for as long as `stalled_after`.
    pub fn drain(&self, stalled_after: Duration) {
        let mut left = usize::MAX;
        let mut since = Instant::now();
        loop {
            let waiting = {
                let queue = self.lock();
                if queue.is_idle() {
                    return;
                }
                queue.waiting.len()
            };
            if waiting < left {
                left = waiting;
                since = Instant::now();
            } else if since.elapsed() > stalled_after {
                return;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn work(&self) {
        while let Some(batch) = self.next_batch() {
            AFTERWARDS.set(Some(Vec::new()));
            // Whoever waits for a job is told when the job is dropped; the lane goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.run)(batch)));
            self.lock().is_running = false;
            for tell in AFTERWARDS.take().unwrap_or_default() {
                let _ = catch_unwind(AssertUnwindSafe(tell));
            }
        }
    }

    fn next_batch(&self) -> Option<Vec<J>> {
        let mut queue = self.lock();
        queue.is_running = !queue.waiting.is_empty();
        queue.has_worker = queue.is_running;
        let size = queue.waiting.len().min(self.largest_batch);
        queue.is_running.then(|| queue.waiting.drain(..size).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> Queue<J> {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.is_running
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn jobs_run_in_order_and_the_lane_rests_after_them() {
        for largest_batch in [1, 7, usize::MAX] {
            let (done, order) = mpsc::channel();
            let lane = Lane::new(largest_batch, move |batch: Vec<u32>| {
                assert!(batch.len() <= largest_batch);
                for job in batch {
                    done.send(job).unwrap();
                }
            });
            for job in 0..1000 {
                lane.push(job);
            }
            let seen: Vec<u32> =
                (0..1000).map(|_| order.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
            assert_eq!(seen, (0..1000).collect::<Vec<_>>());
            lane.drain(Duration::from_secs(10));
            assert!(lane.is_idle());
        }
    }

    /// Asks for whether the lane is idle.
    struct Question(Arc<Lane<Question>>, mpsc::Sender<bool>);

    #[test]
    fn whoever_is_told_afterwards_finds_the_lane_idle() {
        let lane = Lane::new(1, |batch: Vec<Question>| {
            for Question(lane, answer) in batch {
                assert!(!lane.is_idle());
                afterwards(move || answer.send(lane.is_idle()).unwrap());
            }
        });
        for _ in 0..100 {
            let (answer, is_idle) = mpsc::channel();
            lane.push(Question(Arc::clone(&lane), answer));
            assert!(is_idle.recv_timeout(Duration::from_secs(10)).unwrap());
        }
    }

    #[test]
    fn on_a_thread_of_no_lane_afterwards_is_at_once() {
        let (done, order) = mpsc::channel();
        afterwards(move || done.send("told").unwrap());
        assert_eq!(order.try_recv(), Ok("told"));
    }

    #[test]
    fn a_panic_drops_its_batch_only() {
        let (done, order) = mpsc::channel();
        let lane = Lane::new(1, move |batch: Vec<u32>| {
            assert_ne!(batch, [1], "this panic is part of the test");
            done.send(batch[0]).unwrap();
        });
        for job in 0..3 {
            lane.push(job);
        }
        lane.drain(Duration::from_secs(10));
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn draining_does_not_wait_for_a_job_that_hangs() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let lane = Lane::new(1, move |_: Vec<()>| {
            let _ = held.lock().unwrap().recv();
        });
        lane.push(());
        lane.drain(Duration::from_millis(5));
        assert!(!lane.is_idle());
        drop(release);
        lane.drain(Duration::from_secs(10));
        assert!(lane.is_idle());
    }
}

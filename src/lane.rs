//! A queue that runs jobs off the caller's thread, in the order in which they came.

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
    busy: bool,
}

impl<J: Send + 'static> Lane<J> {
    /// A lane whose batches, of up to `largest_batch` jobs, are run by `run`. If that panics, the batch is dropped.
    pub fn new(largest_batch: usize, run: impl Fn(Vec<J>) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), busy: false }),
            largest_batch,
            run: Box::new(run),
        })
    }

    /// Whether nothing waits and nothing runs: only then may work be done outside of the lane without overtaking.
    pub fn is_idle(&self) -> bool {
        !self.lock().busy
    }

    /// Appends a job.
    pub fn push(self: &Arc<Self>, job: J) {
        let mut queue = self.lock();
        queue.waiting.push_back(job);
        if !queue.busy {
            queue.busy = true;
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
                if !queue.busy {
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
        loop {
            let batch: Vec<J> = {
                let mut queue = self.lock();
                if queue.waiting.is_empty() {
                    queue.busy = false;
                    return;
                }
                let size = queue.waiting.len().min(self.largest_batch);
                queue.waiting.drain(..size).collect()
            };
            // Whoever waits for a job is told when the job is dropped; the lane goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.run)(batch)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
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

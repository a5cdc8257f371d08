//! A queue that runs jobs off the caller's thread, in the order in which they came.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::runtime;

/// Runs jobs one batch after another on a background thread.
///
/// All jobs that have come while a batch ran make up the next one, so that they can share a lock, a write or a sync.
pub struct Lane<J> {
    queue: Mutex<Queue<J>>,
    run: Box<dyn Fn(Vec<J>) + Send + Sync>,
}

struct Queue<J> {
    waiting: VecDeque<J>,
    busy: bool,
}

impl<J: Send + 'static> Lane<J> {
    /// A lane whose batches are run by `run`, which must not panic.
    pub fn new(run: impl Fn(Vec<J>) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), busy: false }),
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

    /// Takes back all jobs that have not started.
    pub fn take_waiting(&self) -> Vec<J> {
        self.lock().waiting.drain(..).collect()
    }

    fn work(&self) {
        loop {
            let batch: Vec<J> = {
                let mut queue = self.lock();
                if queue.waiting.is_empty() {
                    queue.busy = false;
                    return;
                }
                queue.waiting.drain(..).collect()
            };
            (self.run)(batch);
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
        let (done, order) = mpsc::channel();
        let lane = Lane::new(move |batch: Vec<u32>| {
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
        while !lane.is_idle() {
            std::thread::yield_now();
        }
    }
}

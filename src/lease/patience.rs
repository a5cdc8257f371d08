//! How long a call may wait for others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
pub use crate::patience::Patience;

/// Whether a manager is on its way to its end.
#[derive(Debug, Default)]
pub struct Closing {
    /// Until when calls that were made before may still wait for others; `None` before it begins.
    deadline: Mutex<Option<Instant>>,
    begun: Condvar,
    closed: AtomicBool,
}

impl Closing {
    /// Calls that are under way may wait for others until `deadline`, no longer.
    pub fn begin(&self, deadline: Instant) {
        // The first closing sets it.
        self.deadline().get_or_insert(deadline);
        self.begun.notify_all();
    }

    /// Calls fail from now on.
    pub fn finish(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Fails with [`Error::Closed`] once the manager is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn deadline(&self) -> MutexGuard<'_, Option<Instant>> {
        self.deadline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The patience of a call, and whether its manager still wants the answer.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    patience: Patience,
    closing: &'a Closing,
}

impl<'a> Wait<'a> {
    /// A wait that ends with `patience`, and sooner if the manager is closed.
    #[must_use]
    pub fn new(patience: Patience, closing: &'a Closing) -> Self {
        Self { patience, closing }
    }

    /// How long the call may wait for other threads of this process: closing doesn't shorten that.
    #[must_use]
    pub fn for_this_process(&self) -> Patience {
        self.patience
    }

    /// How long the call may wait for other processes, as of now.
    #[must_use]
    pub fn patience(&self) -> Patience {
        match (self.patience, *self.closing.deadline()) {
            (Patience::Until(own), Some(closing)) => Patience::Until(own.min(closing)),
            (patience, _) => patience,
        }
    }

    /// Sleeps, for half of the patience at most; closing the manager ends that.
    pub fn sleep(&self, duration: Duration) {
        let Patience::Until(own) = self.patience else { return };
        let duration = duration.min(own.saturating_duration_since(Instant::now()) / 2);
        let guard = self.closing.deadline();
        drop(self.closing.begun.wait_timeout_while(guard, duration, |deadline| deadline.is_none()));
    }

    /// Fails with [`Error::Closed`] once the manager is closed. To be called before each try, with the store's own
    /// locks held, so that nothing is written after the manager's `close` has returned.
    pub fn check_open(&self) -> Result<()> {
        self.closing.check_open()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_ends_a_sleep() {
        let closing = Closing::default();
        let long = Duration::from_secs(30);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let wait = Wait::new(Patience::Until(start + 10 * long), &closing);
                wait.sleep(long);
                wait.patience()
            });
            // It mostly sleeps by then.
            std::thread::sleep(Duration::from_millis(50));
            closing.begin(start);
            closing.begin(start + long);
            assert_eq!(sleeper.join().unwrap(), Patience::Until(start));
        });
        assert!(start.elapsed() < long);
    }

    #[test]
    fn a_sleep_leaves_half_of_the_patience() {
        let closing = Closing::default();
        let start = Instant::now();
        Wait::new(Patience::Until(start + Duration::from_millis(20)), &closing)
            .sleep(Duration::from_secs(600));
        assert!(start.elapsed() < Duration::from_secs(300));
        Wait::new(Patience::Now, &closing).sleep(Duration::from_secs(600));
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}

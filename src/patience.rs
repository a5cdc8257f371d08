//! How long a call may wait for what somebody else holds.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::error::Result;

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Not at all: the caller's thread must not block.
    Now,
    /// Until this moment.
    Until(Instant),
}

impl Patience {
    /// Waits at most this long from now on.
    #[must_use]
    pub fn lasting(duration: Duration) -> Self {
        Self::Until(Instant::now() + duration)
    }

    /// Locks a mutex that others of this process hold for short times only; `None` if it is held and the caller can't
    /// wait. A lock that a panic has poisoned is taken all the same: what it guards is checked at each use.
    pub fn lock<T>(self, mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
        match (mutex.try_lock(), self) {
            (Ok(guard), _) => Some(guard),
            (Err(TryLockError::Poisoned(poisoned)), _) => Some(poisoned.into_inner()),
            (Err(TryLockError::WouldBlock), Self::Until(_)) => {
                Some(mutex.lock().unwrap_or_else(PoisonError::into_inner))
            }
            (Err(TryLockError::WouldBlock), Self::Now) => None,
        }
    }

    /// Repeats `attempt` until it gives something, with growing pauses; `None` when patience has run out.
    pub fn wait_for<T>(self, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        let mut backoff = Backoff::default();
        loop {
            if let Some(value) = attempt()? {
                return Ok(Some(value));
            }
            match self {
                Self::Until(deadline) if Instant::now() < deadline => {
                    std::thread::sleep(backoff.next_wait());
                }
                _ => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_patience_one_attempt_is_made() {
        let mut attempts = 0;
        let result: Option<()> = Patience::Now
            .wait_for(|| {
                attempts += 1;
                Ok(None)
            })
            .unwrap();
        assert_eq!((result, attempts), (None, 1));
    }

    #[test]
    fn patience_lasts_until_something_comes() {
        let mut attempts = 0;
        let result = Patience::lasting(Duration::from_secs(60))
            .wait_for(|| {
                attempts += 1;
                Ok((attempts == 5).then_some("came"))
            })
            .unwrap();
        assert_eq!(result, Some("came"));
    }
}

//! How long to wait before the next try.
//!
//! SQLite's own busy handler sleeps up to 100 ms and holds its connection meanwhile. Locks here are held for
//! microseconds, so these waits start short, and their jitter keeps waiting processes from moving in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(5);

/// A sequence of growing, jittered waits.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        // Each `RandomState` has other keys.
        Self { next: FIRST, random: RandomState::new().hash_one(0) | 1 }
    }

    /// The next wait: between half of the step and the whole of it; steps double up to 5 ms.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = step / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.random % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_differ() {
        let mut backoff = Backoff::new();
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= FIRST / 2 && waits[0] <= FIRST);
        assert!(waits[20..].iter().all(|wait| *wait >= LONGEST / 2 && *wait <= LONGEST));
        assert!(waits[20..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}

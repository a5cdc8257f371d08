//! How long to wait before the next try at what somebody else holds for a short time.
//!
//! SQLite's own busy handler sleeps up to 100 ms and holds its connection meanwhile. Locks here are held for
//! microseconds, so waits start short, and their jitter keeps waiting processes from moving in step.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A sequence of growing, jittered waits.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    random: u64,
}

impl Backoff {
    /// Waits that start at about `first` and grow to about `longest`.
    #[must_use]
    pub fn between(first: Duration, longest: Duration) -> Self {
        // Each `RandomState` has other keys.
        Self { next: first, longest, random: RandomState::new().hash_one(0) | 1 }
    }

    /// The next wait: between half of the step and the whole of it; steps double.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.longest);
        // Marsaglia's xorshift.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = step / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.random % span)
    }
}

impl Default for Backoff {
    /// From 50 µs to 5 ms, for what is held for microseconds.
    fn default() -> Self {
        Self::between(Duration::from_micros(50), Duration::from_millis(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_differ() {
        let (first, longest) = (Duration::from_micros(50), Duration::from_millis(5));
        let mut backoff = Backoff::between(first, longest);
        let waits: Vec<_> = (0..40).map(|_| backoff.next_wait()).collect();
        assert!(waits[0] >= first / 2 && waits[0] <= first);
        assert!(waits[20..].iter().all(|wait| *wait >= longest / 2 && *wait <= longest));
        assert!(waits[20..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}

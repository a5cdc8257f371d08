//! When to leave the write lock to others for a while.
//!
//! A process that gets the lock after another finds its caches cold: it has to read again which pages the other has
//! changed, and the processor's caches hold the other's data. Where several write without a pause, taking turns at
//! each transaction makes all of them slower. So a process that is refused after a series of changes takes a rest, in
//! which another one has its series. One that changes something now and then is never kept waiting like this.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Changes that make a series. An acquisition and a release alone are none.
const SERIES: u32 = 4;

/// The time between two changes that ends a series; a change takes a tenth of it.
const PAUSE: Duration = Duration::from_micros(250);

/// The longest rest. By then each of a handful of processes has had its series.
const REST: Duration = Duration::from_millis(10);

/// What this process has lately done to one database.
#[derive(Debug)]
pub(crate) struct Contention(Mutex<Recent>);

#[derive(Debug)]
struct Recent {
    changes: u32,
    last: Instant,
    /// Whether the last call that could not wait was refused.
    is_refused: bool,
}

impl Contention {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent { changes: 0, last: Instant::now(), is_refused: false }))
    }

    /// Takes note of a change.
    pub(crate) fn passed(&self, now: Instant) {
        let mut recent = self.lock();
        let goes_on = now.saturating_duration_since(recent.last) < PAUSE;
        let changes = if goes_on { recent.changes.saturating_add(1) } else { 1 };
        *recent = Recent { changes, last: now, is_refused: false };
    }

    /// Takes note that a call which can't wait was refused. Says whether it should try again at once: who is in the
    /// way mostly needs microseconds, if it is let run.
    pub(crate) fn refused(&self) -> bool {
        let mut recent = self.lock();
        !std::mem::replace(&mut recent.is_refused, true) && recent.changes < SERIES
    }

    /// The rest that a call which can wait should take before its first try; it mostly is the one that was refused
    /// just now.
    pub(crate) fn rest(&self) -> Option<Duration> {
        let mut recent = self.lock();
        if !std::mem::take(&mut recent.is_refused) || recent.changes < SERIES {
            return None;
        }
        recent.changes = 0;
        Some(Backoff::between(REST, REST).next_wait())
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many changes, with so much time between them.
    fn after(changes: u32, between: Duration) -> Contention {
        let contention = Contention::new();
        let start = Instant::now();
        for change in 0..changes {
            contention.passed(start + between * change);
        }
        contention
    }

    #[test]
    fn who_is_refused_after_a_series_rests_once() {
        let contention = after(SERIES, PAUSE / 2);
        assert_eq!(contention.rest(), None, "nobody was refused");
        assert!(!contention.refused());
        let rest = contention.rest().unwrap();
        assert!(rest >= REST / 2 && rest <= REST, "{rest:?}");
        assert_eq!(contention.rest(), None);
        assert!(contention.refused(), "a new series has to begin");
        assert_eq!(contention.rest(), None);
    }

    #[test]
    fn who_changes_something_now_and_then_tries_again_once_and_never_rests() {
        for contention in [after(SERIES - 1, PAUSE / 2), after(100, PAUSE * 2)] {
            assert!(contention.refused());
            assert!(!contention.refused());
            assert_eq!(contention.rest(), None);
        }
    }

    #[test]
    fn a_change_makes_up_for_a_refusal() {
        let contention = after(100, Duration::ZERO);
        contention.refused();
        contention.passed(Instant::now());
        assert_eq!(contention.rest(), None);
    }
}

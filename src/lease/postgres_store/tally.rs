//! What of this process's counts is stored, and under which name.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// What a process counts by itself, since the server is not asked or does not know.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// Requests refused because somebody held the lease.
    Contention,
    /// Leases granted.
    Acquired,
    /// Requests that failed.
    AcquireErrors,
    /// Renewals.
    Renewed,
    /// Renewals of leases that were not held, or as often as it may.
    RenewalsRefused,
    /// Renewals that failed.
    RenewalErrors,
}

/// What they are called at the server, in the order of [`Count`].
pub(super) const NAMES: [&str; 6] =
    ["contention_events", "acquired", "acquire_errors", "renewed", "renewals_refused", "renewal_errors"];

/// How often each was counted, in the order of [`Count`].
pub(super) type Counts = [u64; NAMES.len()];

fn minus(counts: Counts, others: Counts) -> Counts {
    std::array::from_fn(|i| counts[i].saturating_sub(others[i]))
}

/// Totals that nobody has stored for a day are added up by whoever sweeps: before that their process goes on under a new
/// name.
const NAME_LASTS: Duration = Duration::from_secs(12 * 3600);

pub(super) struct Tally {
    /// Since this process began.
    counted: [AtomicU64; NAMES.len()],
    state: Mutex<State>,
    is_scheduled: AtomicBool,
    is_kept: AtomicBool,
}

struct State {
    source: Uuid,
    /// What was stored under earlier names.
    before: Counts,
    stored: Counts,
    stored_at: Instant,
}

impl Tally {
    pub(super) fn new() -> Self {
        let state = State {
            source: Uuid::new_v4(),
            before: Counts::default(),
            stored: Counts::default(),
            stored_at: Instant::now(),
        };
        Self {
            counted: Default::default(),
            state: Mutex::new(state),
            is_scheduled: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
        }
    }

    /// Whether the caller is to see to it that counts are stored.
    pub(super) fn schedule(&self) -> bool {
        !self.is_scheduled.load(Ordering::Relaxed) && !self.is_scheduled.swap(true, Ordering::AcqRel)
    }

    /// Says that they are about to be: what is counted from now on needs another time.
    pub(super) fn is_due(&self) {
        self.is_scheduled.store(false, Ordering::Release);
    }

    /// Whether the caller is the first.
    pub(super) fn keep(&self) -> bool {
        !self.is_kept.swap(true, Ordering::AcqRel)
    }

    pub(super) fn add(&self, count: Count, times: u64) {
        self.counted[count as usize].fetch_add(times, Ordering::Relaxed);
    }

    fn total(&self) -> Counts {
        std::array::from_fn(|i| self.counted[i].load(Ordering::Relaxed))
    }

    /// The name to store totals under, and what to store, if there is something.
    pub(super) fn unstored(&self) -> Option<(Uuid, Counts)> {
        let total = self.total();
        let mut state = self.lock();
        if total == state.stored {
            return None;
        }
        if state.stored_at.elapsed() > NAME_LASTS {
            state.source = Uuid::new_v4();
            state.before = state.stored;
        }
        Some((state.source, minus(total, state.before)))
    }

    /// Says that this was stored.
    pub(super) fn stored(&self, counted: Counts) {
        let mut state = self.lock();
        let before = state.before;
        state.stored = std::array::from_fn(|i| state.stored[i].max(before[i] + counted[i]));
        state.stored_at = Instant::now();
    }

    /// The present name, and what counts under it, stored or not.
    pub(super) fn own(&self) -> (Uuid, Counts) {
        let total = self.total();
        let state = self.lock();
        (state.source, minus(total, state.before))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

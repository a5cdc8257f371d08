//! What of this process's counts is stored, and under which name.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// Totals that nobody has stored for a day are added up by whoever sweeps: before that their process goes on under a new
/// name.
const NAME_LASTS: Duration = Duration::from_secs(12 * 3600);

pub(super) struct Tally {
    state: Mutex<State>,
    is_scheduled: AtomicBool,
    is_kept: AtomicBool,
}

struct State {
    source: Uuid,
    /// What was stored under earlier names.
    before: u64,
    stored: u64,
    stored_at: Instant,
}

impl Tally {
    pub(super) fn new() -> Self {
        let state = State { source: Uuid::new_v4(), before: 0, stored: 0, stored_at: Instant::now() };
        Self {
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

    /// The name to store a total under, and what to store, if there is something.
    pub(super) fn unstored(&self, total: u64) -> Option<(Uuid, u64)> {
        let mut state = self.lock();
        if total == state.stored {
            return None;
        }
        if state.stored_at.elapsed() > NAME_LASTS {
            state.source = Uuid::new_v4();
            state.before = state.stored;
        }
        Some((state.source, total - state.before))
    }

    /// Says that this was stored.
    pub(super) fn stored(&self, counted: u64) {
        let mut state = self.lock();
        state.stored = state.stored.max(state.before + counted);
        state.stored_at = Instant::now();
    }

    /// The present name, and what counts under it, stored or not.
    pub(super) fn own(&self, total: u64) -> (Uuid, u64) {
        let state = self.lock();
        (state.source, total - state.before)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

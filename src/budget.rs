//! How long calls may keep the event loop from turning.
//!
//! Work that is done in the call answers with a promise that is already resolved, and a program that awaits such
//! promises one after another never lets the event loop turn. So the time spent in calls is added up, and beyond a
//! budget a call goes to another thread, whose answer comes with the next turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The time that calls may take before the event loop has to turn.
const BUDGET: Duration = Duration::from_millis(2);

/// What a call counts at most. One takes a few tens of microseconds; if it took longer, another process had the core or
/// was waited for, and sending the next call to another thread would only add to that.
const LONGEST_CALL: Duration = Duration::from_micros(100);

thread_local! {
    static SPENT: Cell<(Duration, Option<Instant>)> = const { Cell::new((Duration::ZERO, None)) };
}

/// Does the work unless the budget is used up; the result, and how long it took.
pub fn spend<T>(work: impl FnOnce() -> T) -> Option<(T, Duration)> {
    let (spent, last) = SPENT.get();
    let start = Instant::now();
    // Time that went by between calls was the application's own, or the event loop has turned.
    let spent = spent.saturating_sub(last.map_or(BUDGET, |last| start.duration_since(last)));
    if spent >= BUDGET {
        return None;
    }
    let result = work();
    let end = Instant::now();
    let took = end.duration_since(start);
    SPENT.set((spent + took.min(LONGEST_CALL), Some(end)));
    Some((result, took))
}

/// Tells that the event loop has turned.
pub fn renew() {
    SPENT.set((Duration::ZERO, None));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_ends_and_is_renewed() {
        renew();
        let work = || std::thread::sleep(LONGEST_CALL);
        let done = (0..100).filter(|_| spend(work).is_some()).count();
        // The time between the calls is given back.
        assert!((20..=22).contains(&done), "{done}");
        renew();
        assert!(spend(work).is_some());
    }
}

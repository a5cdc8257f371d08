//! How long calls may keep the event loop from turning.
//!
//! Work that is done in the call answers with a promise that is already resolved, and a program that awaits such
//! promises one after another, or makes calls by the thousand, never lets the event loop turn. So the time that they
//! take is added up, and beyond a budget a call goes to another thread, whose answer comes with the next turn.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The time that calls may take before the event loop has to turn.
const BUDGET: Duration = Duration::from_millis(3);

/// What a call, or the way to the next one, counts at most. Each takes some microseconds or tens of them; if it took
/// longer, another process had the core or was waited for, and sending the next call to another thread would only add
/// to that.
const LONGEST: Duration = Duration::from_micros(100);

thread_local! {
    static SPENT: Cell<Spent> = const { Cell::new(Spent::NOTHING) };
}

/// What calls have taken since the event loop is known to have turned.
#[derive(Clone, Copy)]
struct Spent {
    time: Duration,
    /// When the last call ended, or was refused.
    last: Option<Instant>,
}

impl Spent {
    const NOTHING: Self = Self { time: Duration::ZERO, last: None };

    /// What is spent when a call begins.
    fn at(self, start: Instant) -> Self {
        let time = match self.last.map(|last| start.saturating_duration_since(last)) {
            // What converting arguments and answers takes: as much as some calls themselves.
            Some(between) if between < LONGEST => self.time + between,
            // The application did something of its own, or the event loop has turned.
            Some(between) => self.time.saturating_sub(between),
            None => Duration::ZERO,
        };
        Self { time: time.min(BUDGET), last: Some(start) }
    }

    fn is_left(self) -> bool {
        self.time < BUDGET
    }

    fn and_a_call(self, took: Duration) -> Self {
        Self { time: self.time + took.min(LONGEST), last: self.last.map(|start| start + took) }
    }
}

/// Does the work unless the budget is used up; the result, and how long it took.
pub fn spend<T>(work: impl FnOnce() -> T) -> Option<(T, Duration)> {
    let start = Instant::now();
    let spent = SPENT.get().at(start);
    SPENT.set(spent);
    if !spent.is_left() {
        return None;
    }
    let result = work();
    let took = start.elapsed();
    SPENT.set(spent.and_a_call(took));
    Some((result, took))
}

/// Tells that the event loop has turned.
pub fn renew() {
    SPENT.set(Spent::NOTHING);
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    /// Which of 1,000 calls, each `between` after the one before, are made, if one takes `call`.
    fn made(call: Duration, between: Duration) -> Vec<bool> {
        let mut spent = Spent::NOTHING;
        let mut now = Instant::now();
        (0..1000)
            .map(|_| {
                spent = spent.at(now);
                let is_made = spent.is_left();
                if is_made {
                    spent = spent.and_a_call(call);
                    now += call;
                }
                now += between;
                is_made
            })
            .collect()
    }

    fn count(made: &[bool]) -> usize {
        made.iter().filter(|is_made| **is_made).count()
    }

    #[test]
    fn calls_and_the_ways_between_them_use_the_budget_up_for_good() {
        for (call, between) in [(us(10), us(5)), (us(5), us(10)), (us(14), us(1))] {
            let made = made(call, between);
            assert_eq!(count(&made), 200);
            assert!(made[..200].iter().all(|is_made| *is_made));
        }
    }

    #[test]
    fn time_of_the_applications_own_is_given_back() {
        assert_eq!(count(&made(us(50), us(150))), 1000);
        assert_eq!(count(&made(us(100), us(100))), 1000);
    }

    #[test]
    fn a_call_that_had_to_wait_counts_little() {
        assert_eq!(count(&made(us(50_000), us(0))), 30);
    }

    #[test]
    fn a_turn_of_the_loop_renews_it() {
        SPENT.set(Spent { time: BUDGET, last: Some(Instant::now() + Duration::from_secs(1)) });
        assert!(spend(|| ()).is_none());
        renew();
        assert!(spend(|| ()).is_some());
    }
}

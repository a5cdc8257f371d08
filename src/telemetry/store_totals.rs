//! Totals that the store of leases keeps itself, taken over as they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Start;
use super::series::{Counter, Totals};

/// The store's totals by its own names, and what they are here.
pub static STORE_TOTALS: [(&str, Counter, &[&[u8]]); 11] = [
    ("acquired", Counter::LeaseAcquisitions, &[b"acquired"]),
    ("contended", Counter::LeaseAcquisitions, &[b"contended"]),
    ("acquireErrors", Counter::LeaseAcquisitions, &[b"error"]),
    ("renewed", Counter::LeaseRenewals, &[b"renewed"]),
    ("renewalsRefused", Counter::LeaseRenewals, &[b"refused"]),
    ("renewalErrors", Counter::LeaseRenewals, &[b"error"]),
    ("takeoversExpired", Counter::LeaseTakeovers, &[b"expired"]),
    ("takeoversDeadHolder", Counter::LeaseTakeovers, &[b"dead_holder"]),
    ("forcedReleases", Counter::LeaseForcedReleases, &[]),
    ("finishedHolds", Counter::LeaseHolds, &[]),
    ("finishedHoldSeconds", Counter::LeaseHoldSeconds, &[]),
];

/// The store's totals, in the order of [`STORE_TOTALS`].
pub type StoreTotals = [f64; STORE_TOTALS.len()];

/// What is known of the store's totals. They begin at 0 again when its database was replaced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreState {
    last: Option<BTreeMap<String, f64>>,
    /// What is to be added to the store's totals: those of databases before this one.
    base: BTreeMap<String, f64>,
}

impl StoreState {
    /// Takes over what the store says.
    pub fn take(&mut self, now: &StoreTotals, start: Start, totals: &mut Totals) {
        let named = || STORE_TOTALS.iter().zip(now).map(|((name, ..), now)| (*name, *now));
        let of = |map: &BTreeMap<String, f64>, name| map.get(name).copied().unwrap_or(0.0);
        match &self.last {
            None if start == Start::Now => {
                self.base = named().map(|(name, now)| (name.to_owned(), -now)).collect();
            }
            Some(last) if named().any(|(name, now)| now < of(last, name)) => {
                for (name, last) in last {
                    *self.base.entry(name.clone()).or_default() += last;
                }
            }
            _ => {}
        }
        for ((name, counter, labels), now) in STORE_TOTALS.iter().zip(now) {
            totals.set(*counter, labels, of(&self.base, name) + now);
        }
        self.last = Some(named().map(|(name, now)| (name.to_owned(), now)).collect());
    }

    /// Takes note that there is no database: whatever one says later is new.
    pub fn take_absence(&mut self) {
        self.last.get_or_insert_default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is counted here is whole")]

    use super::*;

    fn acquired(state: &mut StoreState, now: f64, start: Start) -> f64 {
        let mut totals = Totals::default();
        let mut store = [0.0; STORE_TOTALS.len()];
        store[0] = now;
        state.take(&store, start, &mut totals);
        totals.get(Counter::LeaseAcquisitions, &[b"acquired"])
    }

    #[test]
    fn totals_go_on_when_the_database_was_replaced() {
        let mut state = StoreState::default();
        let seen = [5.0, 7.0, 2.0, 3.0].map(|now| acquired(&mut state, now, Start::Beginning));
        assert_eq!(seen, [5.0, 7.0, 9.0, 10.0]);
    }

    #[test]
    fn from_now_on_leaves_out_what_was_before() {
        let mut state = StoreState::default();
        assert_eq!([5.0, 7.0].map(|now| acquired(&mut state, now, Start::Now)), [0.0, 2.0]);
        let mut state = StoreState::default();
        state.take_absence();
        assert_eq!(acquired(&mut state, 3.0, Start::Now), 3.0);
    }
}

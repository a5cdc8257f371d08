//! What is counted, and the totals.
//!
//! Labels come from closed lists, so that the number of series is fixed and each exists, at 0, from the start. What is in
//! none of the lists counts as `other`.

use std::collections::BTreeMap;

use crate::metrics::{Acquisition, Dimension, PHASES, Renewal, SEVERITIES, Takeover};
use crate::text::Text;

/// A label and what it may say.
#[derive(Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values. If the last is `other`, whatever is not in the list counts as that.
    pub values: &'static [&'static str],
}

/// Series with one name.
#[derive(Debug)]
pub struct Family {
    /// The name, without the prefix.
    pub name: &'static str,
    /// What is counted, in a sentence.
    pub help: &'static str,
    /// What tells its series apart.
    pub labels: &'static [Label],
}

macro_rules! families {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $help:literal, [$($label:expr),*];)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $(#[doc = $help] $variant,)*
        }

        /// All that is counted, in the order of [`Counter`].
        pub static FAMILIES: &[Family] =
            &[$(Family { name: $name, help: $help, labels: &[$($label),*] },)*];
    };
}

const PHASE: Label = Label { name: "phase", values: PHASES };
const SEVERITY: Label = Label { name: "severity", values: SEVERITIES };
const DIMENSION: Label = Label { name: "dimension", values: Dimension::NAMES };
const COUNTER: Label = Label {
    name: "counter",
    values: &[
        "evidence_gate_passed",
        "evidence_gate_failed",
        "phase_lease_contention",
        "prompt_drift_detected",
        "phase_skips_attempted",
        "phase_validations_passed",
        "phase_validations_failed",
        "other",
    ],
};

/// The names of the files, as a label says them, in the order of [`Source::ALL`](super::Source::ALL).
pub const FILES: &[&str] = &["counters", "attestations", "ledger"];

const fn result(values: &'static [&'static str]) -> Label {
    Label { name: "result", values }
}

families! {
    LeaseAcquisitions: "lease_acquisitions_total",
        "Attempts to acquire a lease, in all processes of the workspace.",
        [result(Acquisition::NAMES)];
    LeaseRenewals: "lease_renewals_total",
        "Attempts to renew a lease, in all processes of the workspace.",
        [result(Renewal::NAMES)];
    LeaseTakeovers: "lease_takeovers_total",
        "Leases acquired that another agent had not released, because they had expired or their holder was dead.",
        [Label { name: "reason", values: Takeover::NAMES }];
    LeaseForcedReleases: "lease_forced_releases_total", "Leases that an operator released by force.", [];
    LeaseHolds: "lease_holds_total", "Leases that were held and are no longer.", [];
    LeaseHoldSeconds: "lease_hold_seconds_total", "How long finished holds lasted together, in seconds.", [];
    Attestations: "attestations_total", "Attested prompts, by the severity of their drift.", [PHASE, SEVERITY];
    Drift: "drift_total", "Attested prompts that differed from their baseline.", [PHASE, DIMENSION, SEVERITY];
    LedgerEntries: "ledger_entries_total", "Phase transitions in the ledger, by the phase entered.", [PHASE];
    EvidenceGates: "evidence_gates_total", "Evidence gates that were checked.", [result(&["passed", "failed"])];
    PhaseValidations: "phase_validations_total",
        "Phase validations that were made.", [result(&["passed", "failed"])];
    PhaseSkips: "phase_skips_total", "Attempts to skip a phase.", [];
    Counters: "recorded_total", "What was recorded in counters.jsonl, by name.", [COUNTER];
    MalformedLines: "malformed_lines_total",
        "Lines that could not be read and count for nothing.", [Label { name: "file", values: FILES }];
}

impl Counter {
    fn family(self) -> &'static Family {
        &FAMILIES[self as usize]
    }
}

/// How much was counted, of everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Totals(Vec<Vec<f64>>);

impl Default for Totals {
    /// Every series, at 0.
    fn default() -> Self {
        Self(FAMILIES.iter().map(|family| vec![0.0; family.size()]).collect())
    }
}

impl Totals {
    /// Counts `amount` for the series with these values of its labels, given in the labels' order.
    pub fn add(&mut self, counter: Counter, labels: &[&[u8]], amount: f64) {
        if let Some(total) = self.series(counter, labels) {
            *total += amount;
        }
    }

    /// Sets what was counted for a series.
    pub fn set(&mut self, counter: Counter, labels: &[&[u8]], amount: f64) {
        if let Some(total) = self.series(counter, labels) {
            *total = amount;
        }
    }

    /// What was counted for a series; 0 if there is none with these labels.
    #[must_use]
    pub fn get(&self, counter: Counter, labels: &[&[u8]]) -> f64 {
        counter.family().position(labels).map_or(0.0, |position| self.0[counter as usize][position])
    }

    /// What was counted more than in `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let difference = |(now, before): (&Vec<f64>, &Vec<f64>)| {
            now.iter().zip(before).map(|(now, before)| now - before).collect()
        };
        Self(self.0.iter().zip(&before.0).map(difference).collect())
    }

    /// Calls `each` for each family and its totals.
    pub fn for_each(&self, mut each: impl FnMut(&'static Family, &[f64])) {
        for (family, totals) in FAMILIES.iter().zip(&self.0) {
            each(family, totals);
        }
    }

    /// What is not 0, by name, to be written down: a later version may count more or other things.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, f64> {
        let mut map = BTreeMap::new();
        self.for_each(|family, totals| {
            for (position, total) in totals.iter().enumerate().filter(|(_, total)| **total != 0.0) {
                map.insert(family.key(position), *total);
            }
        });
        map
    }

    /// The totals that [`Self::to_map`] gave; what isn't counted any more is left out.
    #[must_use]
    pub fn from_map(map: &BTreeMap<String, f64>) -> Self {
        let mut totals = Self::default();
        for (family, totals) in FAMILIES.iter().zip(&mut totals.0) {
            for (position, total) in totals.iter_mut().enumerate() {
                *total = map.get(&family.key(position)).copied().unwrap_or(0.0);
            }
        }
        totals
    }

    fn series(&mut self, counter: Counter, labels: &[&[u8]]) -> Option<&mut f64> {
        let position = counter.family().position(labels)?;
        self.0[counter as usize].get_mut(position)
    }
}

impl Family {
    fn size(&self) -> usize {
        self.labels.iter().map(|label| label.values.len()).product()
    }

    /// Where the series with these labels is among those of the family.
    fn position(&self, labels: &[&[u8]]) -> Option<usize> {
        debug_assert_eq!(self.labels.len(), labels.len());
        self.labels.iter().zip(labels).try_fold(0, |position, (label, value)| {
            let known = label.values.iter().position(|known| known.as_bytes() == *value);
            let other = || label.values.len().checked_sub(1).filter(|last| label.values[*last] == "other");
            Some(position * label.values.len() + known.or_else(other)?)
        })
    }

    /// The labels of the series at a position, each with its value.
    pub fn labels_at(&self, position: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mut behind = self.size();
        self.labels.iter().map(move |label| {
            behind /= label.values.len();
            (label.name, label.values[position / behind % label.values.len()])
        })
    }

    fn key(&self, position: usize) -> String {
        let labels: Vec<String> =
            self.labels_at(position).map(|(name, value)| format!("{name}={value}")).collect();
        if labels.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}{{{}}}", self.name, labels.join(","))
        }
    }

    /// Appends the family and its totals as JSON.
    pub fn write_json(&self, totals: &[f64], out: &mut Vec<u8>) {
        let string = |text: &str, out: &mut Vec<u8>| Text::from(text).write_json(out);
        out.extend_from_slice(b"{\"name\":");
        string(self.name, out);
        out.extend_from_slice(b",\"help\":");
        string(self.help, out);
        out.extend_from_slice(b",\"type\":\"counter\",\"samples\":[");
        for (position, total) in totals.iter().enumerate() {
            out.extend_from_slice(if position > 0 { b",{\"labels\":{" } else { b"{\"labels\":{" });
            for (number, (name, value)) in self.labels_at(position).enumerate() {
                if number > 0 {
                    out.push(b',');
                }
                string(name, out);
                out.push(b':');
                string(value, out);
            }
            out.extend_from_slice(b"},\"value\":");
            out.extend_from_slice(ryu_js::Buffer::new().format_finite(*total).as_bytes());
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "what is counted here is whole")]

    use super::*;

    #[test]
    fn each_series_has_its_own_place_and_name() {
        let mut totals = Totals::default();
        totals.add(Counter::Drift, &[b"VERIFY", b"persona", b"high"], 2.0);
        totals.add(Counter::Drift, &[b"VERIFY", b"persona", b"strange"], 3.0);
        totals.add(Counter::Drift, &[b"VERIFY", b"neither", b"high"], 4.0);
        totals.add(Counter::PhaseSkips, &[], 0.5);
        let map = totals.to_map();
        let named: Vec<(&str, f64)> = map.iter().map(|(name, total)| (name.as_str(), *total)).collect();
        assert_eq!(
            named,
            [
                ("drift_total{phase=VERIFY,dimension=persona,severity=high}", 2.0),
                ("drift_total{phase=VERIFY,dimension=persona,severity=other}", 3.0),
                ("phase_skips_total", 0.5)
            ]
        );
        assert_eq!(Totals::from_map(&map), totals);
        assert_eq!(totals.get(Counter::Drift, &[b"VERIFY", b"persona", b"high"]), 2.0);
    }

    #[test]
    fn names_are_unique() {
        let mut names = std::collections::HashSet::new();
        let mut series = 0;
        Totals::default().for_each(|family, totals| {
            for position in 0..totals.len() {
                series += 1;
                names.insert(family.key(position));
            }
        });
        assert_eq!(names.len(), series);
    }
}

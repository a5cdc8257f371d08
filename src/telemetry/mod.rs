//! What happened, in numbers: the file of counters that agents append to, and the totals that an exporter shows.
//!
//! [`recorder`] appends counters. [`exporter`] follows that file, the attestations log and the ledger: `listing` finds
//! their files, also those that were rotated away, [`follower`] reads what is new in them, [`lines`] says what a line
//! counts for, [`series`] lists what is counted, and [`state`] is what survives a restart.
//!
//! An event is counted from one file only: drift from the attestations log, entries from the ledger, all else from the
//! counters.

pub mod exporter;
pub mod follower;
pub mod lines;
mod listing;
pub mod recorder;
pub mod series;
pub mod state;
mod store_totals;
#[cfg(test)]
mod tests;

pub use exporter::{Exporter, Start};
pub use recorder::CounterLog;
pub use series::Totals;
pub use store_totals::{STORE_TOTALS, StoreTotals};

/// The folder of a workspace in which the counters are.
pub const TELEMETRY_FOLDER: &str = "state/telemetry";

/// The journals that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The counters that agents record.
    Counters,
    /// The log of attestations.
    Attestations,
    /// The ledger.
    Ledger,
}

impl Source {
    /// All of them, in the order of [`series::FILES`].
    pub const ALL: [Self; 3] = [Self::Counters, Self::Attestations, Self::Ledger];

    /// The journal's place in the workspace.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Counters => "state/telemetry/counters.jsonl",
            Self::Attestations => "state/process/prompt_attestations.jsonl",
            Self::Ledger => "state/process/ledger.jsonl",
        }
    }
}

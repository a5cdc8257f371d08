//! What this process has counted and measured since it started, for whoever watches it.
//!
//! What is kept in the workspace, such as the totals of all processes, is not here: these figures end with the process.
//! The instruments are atomics in static memory, and what counts is called instead of being copied to each place that
//! counts, to keep the binary small. A registry of a library would look each series up by its labels, or
//! lock a histogram, and make the binary larger by more than a hundred kilobytes.

mod instruments;
mod labels;

use std::time::Duration;

pub use self::instruments::{Bucket, CounterFamily, CounterSeries, HistogramFamily, HistogramSeries, Labels};
use self::instruments::{Counters, Histograms};
pub use self::labels::{
    Acquisition, Append, CODES, Dimension, FileLock, Operation, PHASES, Renewal, SEVERITIES, Takeover,
};
use crate::error::Error;
use crate::text::Text;

const fn micros(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// For what takes microseconds unless somebody is in the way.
const LATENCIES: [Duration; 14] = [
    micros(5),
    micros(10),
    micros(25),
    micros(50),
    micros(100),
    micros(250),
    millis(1),
    millis(5),
    millis(25),
    millis(100),
    millis(500),
    secs(2),
    secs(5),
    secs(30),
];

/// For waits, which other agents end.
const WAITS: [Duration; 12] = [
    millis(1),
    millis(5),
    millis(25),
    millis(100),
    millis(500),
    secs(1),
    secs(5),
    secs(15),
    secs(60),
    secs(300),
    secs(900),
    secs(3600),
];

const ACQUISITIONS: usize = Acquisition::NAMES.len();
const RENEWALS: usize = Renewal::NAMES.len();
const TAKEOVERS: usize = Takeover::NAMES.len();
const ATTESTED: usize = PHASES.len() * SEVERITIES.len();
const APPENDS: usize = Append::NAMES.len();
const LOCKS: usize = FileLock::NAMES.len();
const OPERATIONS: usize = Operation::NAMES.len();

static LEASE_ACQUISITIONS: Counters<ACQUISITIONS> = Counters::new(
    "driftlock_process_lease_acquisitions_total",
    "Leases acquired by this process, and requests refused because somebody had the lease or failed.",
    &[("result", Acquisition::NAMES)],
);

static LEASE_RENEWALS: Counters<RENEWALS> = Counters::new(
    "driftlock_process_lease_renewals_total",
    "Renewals of leases by this process, those of held leases included.",
    &[("result", Renewal::NAMES)],
);

static LEASE_TAKEOVERS: Counters<TAKEOVERS> = Counters::new(
    "driftlock_process_lease_takeovers_total",
    "Leases of others that this process took over.",
    &[("reason", Takeover::NAMES)],
);

static LEASE_HOLD: Histograms<1, { WAITS.len() }> = Histograms::new(
    "driftlock_process_lease_hold_seconds",
    "How long leases were held that this process released, took over or swept.",
    &[],
    WAITS,
);

static LEASE_WAIT: Histograms<1, { WAITS.len() }> = Histograms::new(
    "driftlock_process_lease_wait_seconds",
    "How long this process waited to hold leases, until they were granted or it gave up.",
    &[],
    WAITS,
);

static ATTESTATIONS: Counters<ATTESTED> = Counters::new(
    "driftlock_process_attestations_total",
    "Prompts attested by this process.",
    &[("phase", PHASES), ("severity", SEVERITIES)],
);

static DRIFT: Counters<{ ATTESTED * Dimension::NAMES.len() }> = Counters::new(
    "driftlock_process_drift_total",
    "Attestations by this process whose prompt or persona differs from its baseline.",
    &[("phase", PHASES), ("dimension", Dimension::NAMES), ("severity", SEVERITIES)],
);

static LEDGER_APPENDS: Counters<APPENDS> = Counters::new(
    "driftlock_process_ledger_appends_total",
    "Entries that this process appended to ledgers.",
    &[("result", Append::NAMES)],
);

static FILE_LOCKS: Counters<LOCKS> = Counters::new(
    "driftlock_process_file_lock_acquisitions_total",
    "Requests of this process for file locks.",
    &[("result", FileLock::NAMES)],
);

static FILE_LOCK_WAIT: Histograms<1, { WAITS.len() }> = Histograms::new(
    "driftlock_process_file_lock_wait_seconds",
    "How long this process waited for file locks, until it had them or gave up.",
    &[],
    WAITS,
);

static OPERATION: Histograms<OPERATIONS, { LATENCIES.len() }> = Histograms::new(
    "driftlock_process_operation_seconds",
    "How long calls took until they were answered.",
    &[("operation", Operation::NAMES)],
    LATENCIES,
);

static ERRORS: Counters<{ CODES.len() }> = Counters::new(
    "driftlock_process_errors_total",
    "Errors that calls of this process ended with, also where the call answers instead of failing.",
    &[("code", CODES)],
);

/// Leases were granted, refused, or could not be had.
#[inline(never)]
pub fn acquisition(result: Acquisition, leases: u64) {
    LEASE_ACQUISITIONS.add([result as usize], leases);
}

/// A lease was renewed, or not.
#[inline(never)]
pub fn renewal(result: Renewal) {
    LEASE_RENEWALS.add([result as usize], 1);
}

/// Leases were taken over.
#[inline(never)]
pub fn takeovers(reason: Takeover, count: u64) {
    if count > 0 {
        LEASE_TAKEOVERS.add([reason as usize], count);
    }
}

/// How long leases were held whose end is not certain yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HoldTimes {
    buckets: [u32; WAITS.len() + 1],
    sum: Duration,
}

impl HoldTimes {
    /// One lease's.
    #[must_use]
    #[inline(never)]
    pub fn of(held: Duration) -> Self {
        let mut times = Self { sum: held, ..Self::default() };
        times.buckets[LEASE_HOLD.bucket_of(held)] = 1;
        times
    }

    /// Both.
    #[must_use]
    #[inline(never)]
    pub fn plus(mut self, other: Self) -> Self {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.sum += other.sum;
        self
    }
}

/// The holds of leases ended.
#[inline(never)]
pub fn leases_held_for(times: HoldTimes) {
    let mut sum = times.sum;
    for (bucket, count) in times.buckets.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        LEASE_HOLD.observe_all([], bucket, count.into(), std::mem::take(&mut sum));
    }
}

/// A wait for leases to hold ended.
#[inline(never)]
pub fn lease_waited_for(duration: Duration) {
    LEASE_WAIT.observe([], duration);
}

/// A prompt was attested.
#[inline(never)]
pub fn attestation(phase: &Text, severity: &str, prompt_drift: bool, persona_drift: bool) {
    let (phase, severity) = (labels::phase(phase), labels::severity(severity));
    ATTESTATIONS.add([phase, severity], 1);
    for (is_drift, dimension) in [(prompt_drift, Dimension::Prompt), (persona_drift, Dimension::Persona)] {
        if is_drift {
            DRIFT.add([phase, dimension as usize, severity], 1);
        }
    }
}

/// Entries were appended to a ledger, or not.
#[inline(never)]
pub fn ledger_appends(result: Append, entries: usize) {
    LEDGER_APPENDS.add([result as usize], entries as u64);
}

/// A file lock was acquired, or not, after a wait.
#[inline(never)]
pub fn file_lock(result: FileLock, waited: Duration) {
    FILE_LOCKS.add([result as usize], 1);
    FILE_LOCK_WAIT.observe([], waited);
}

/// A call was answered.
#[inline(never)]
pub fn operation(operation: Operation, took: Duration) {
    OPERATION.observe([operation as usize], took);
}

/// A call ended with an error.
pub fn error(error: &Error) {
    error_of_code(error.code());
}

/// A call ended with an error that has this code.
#[inline(never)]
pub fn error_of_code(code: &str) {
    ERRORS.add([labels::code(code)], 1);
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// What is counted.
    pub counters: Vec<CounterFamily>,
    /// What is measured.
    pub histograms: Vec<HistogramFamily>,
}

/// All of it, as it is now. Each figure is right; those that are changed meanwhile may not fit each other.
#[must_use]
pub fn read() -> Metrics {
    Metrics {
        counters: vec![
            LEASE_ACQUISITIONS.read(),
            LEASE_RENEWALS.read(),
            LEASE_TAKEOVERS.read(),
            ATTESTATIONS.read(),
            DRIFT.read(),
            LEDGER_APPENDS.read(),
            FILE_LOCKS.read(),
            ERRORS.read(),
        ],
        histograms: vec![LEASE_HOLD.read(), LEASE_WAIT.read(), FILE_LOCK_WAIT.read(), OPERATION.read()],
    }
}

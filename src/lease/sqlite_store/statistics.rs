//! Figures that the rows there are don't tell: what was granted and refused, and finished holds, over all processes.
//!
//! Writing them one by one would make a refusal several times as dear. They are added up in memory, for the whole
//! process, and folded into the next write that happens anyway; a timer and the end of a manager see to the rest.
//! A process that is killed takes at most the last half second of them with it.

use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, params_from_iter};

use crate::lease::model::LeaseTotals;
use crate::metrics::{self, HoldTimes, Takeover};
use crate::sqlite::Failure;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Figure {
    /// Requests refused because somebody held the lease.
    ContentionEvents,
    /// Holds that ended.
    FinishedHolds,
    /// How long these lasted together, in milliseconds.
    FinishedHoldMs,
    /// Leases granted.
    Acquired,
    /// Requests that failed.
    AcquireErrors,
    /// Renewals, also those of leases that are held.
    Renewed,
    /// Renewals refused because the lease was not the holder's, or had been renewed as often as it may.
    RenewalsRefused,
    /// Renewals that failed.
    RenewalErrors,
    /// Expired leases that were granted to somebody.
    TakeoversExpired,
    /// Leases of dead processes that were granted to somebody.
    TakeoversDeadHolder,
    /// Leases that somebody else than their holder released.
    ForcedReleases,
}

/// The columns of `phase_lease_meta` that keep the figures, in the order of [`Figure`].
pub(super) const COLUMNS: [&str; 11] = [
    "contention_events",
    "finished_holds",
    "finished_hold_ms",
    "acquired",
    "acquire_errors",
    "renewed",
    "renewals_refused",
    "renewal_errors",
    "takeovers_expired",
    "takeovers_dead_holder",
    "forced_releases",
];

const FIGURES: usize = COLUMNS.len();

/// Sums of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Figures {
    counts: [u64; FIGURES],
    /// What only this process keeps.
    hold_times: HoldTimes,
}

impl Figures {
    #[inline(never)]
    pub(super) fn of(figure: Figure, count: u64) -> Self {
        let mut figures = Self::default();
        figures.counts[figure as usize] = count;
        figures
    }

    pub(super) fn one(figure: Figure) -> Self {
        Self::of(figure, 1)
    }

    /// A finished hold.
    #[inline(never)]
    pub(super) fn hold(ms: i64) -> Self {
        let ms = u64::try_from(ms).unwrap_or(0);
        let mut figures = Self::of(Figure::FinishedHoldMs, ms);
        figures.counts[Figure::FinishedHolds as usize] = 1;
        figures.hold_times = HoldTimes::of(Duration::from_millis(ms));
        figures
    }

    #[inline(never)]
    pub(super) fn plus(mut self, other: Self) -> Self {
        for (figure, more) in self.counts.iter_mut().zip(other.counts) {
            *figure = figure.saturating_add(more);
        }
        self.hold_times = self.hold_times.plus(other.hold_times);
        self
    }

    pub(super) fn get(self, figure: Figure) -> u64 {
        self.counts[figure as usize]
    }

    /// How long finished holds lasted on average, in seconds; 0 if there were none.
    #[expect(clippy::cast_precision_loss, reason = "an average over more than 2^53 ms may be off by one")]
    pub(super) fn average_hold_s(self) -> f64 {
        match self.get(Figure::FinishedHolds) {
            0 => 0.0,
            holds => self.get(Figure::FinishedHoldMs) as f64 / holds as f64 / 1000.0,
        }
    }

    #[inline(never)]
    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Shows in the metrics of this process what it has done itself. To be called once that is committed.
    #[inline(never)]
    pub(super) fn publish(self) {
        metrics::leases_held_for(self.hold_times);
        for (reason, figure) in [
            (Takeover::Expired, Figure::TakeoversExpired),
            (Takeover::DeadHolder, Figure::TakeoversDeadHolder),
        ] {
            metrics::takeovers(reason, self.get(figure));
        }
    }

    /// In the order of the columns, as SQLite counts.
    pub(super) fn columns(self) -> [i64; FIGURES] {
        self.counts.map(|figure| i64::try_from(figure).unwrap_or(i64::MAX))
    }
}

/// For the figures alone; what the rows tell is zero.
impl From<Figures> for LeaseTotals {
    fn from(figures: Figures) -> Self {
        Self {
            acquired: figures.get(Figure::Acquired),
            contended: figures.get(Figure::ContentionEvents),
            acquire_errors: figures.get(Figure::AcquireErrors),
            renewed: figures.get(Figure::Renewed),
            renewals_refused: figures.get(Figure::RenewalsRefused),
            renewal_errors: figures.get(Figure::RenewalErrors),
            takeovers_expired: figures.get(Figure::TakeoversExpired),
            takeovers_dead_holder: figures.get(Figure::TakeoversDeadHolder),
            forced_releases: figures.get(Figure::ForcedReleases),
            finished_holds: figures.get(Figure::FinishedHolds),
            finished_hold_ms: figures.get(Figure::FinishedHoldMs),
            ..Self::default()
        }
    }
}

/// What this process has counted and not yet stored.
///
/// Added to at any time; taken from only while the database's writer is held, once what was taken is committed, so
/// that whoever holds the writer sees each event either here or in the table.
#[derive(Debug, Default)]
pub(super) struct Pending([AtomicU64; FIGURES]);

impl Pending {
    pub(super) fn add_one(&self, figure: Figure) {
        self.0[figure as usize].fetch_add(1, Ordering::Relaxed);
    }

    #[inline(never)]
    pub(super) fn add(&self, figures: Figures) {
        for (pending, more) in self.0.iter().zip(figures.counts) {
            if more > 0 {
                pending.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    #[inline(never)]
    pub(super) fn figures(&self) -> Figures {
        let counts = std::array::from_fn(|figure| self.0[figure].load(Ordering::Relaxed));
        Figures { counts, ..Figures::default() }
    }

    /// Takes off what is stored now.
    #[inline(never)]
    pub(super) fn subtract(&self, stored: Figures) {
        for (pending, less) in self.0.iter().zip(stored.counts) {
            if less > 0 {
                pending.fetch_sub(less, Ordering::Relaxed);
            }
        }
    }

    /// Stores what is pending, in a transaction of its own.
    #[inline(never)]
    pub(super) fn fold(&self, writer: &Connection) -> Result<(), Failure> {
        let figures = self.figures();
        if figures.is_zero() {
            return Ok(());
        }
        // A single statement takes the write lock from its start, as BEGIN IMMEDIATE does.
        store(writer, figures, None)?;
        self.subtract(figures);
        Ok(())
    }
}

/// Adds to what is stored, and sets the token that comes next if there is one to set.
#[inline(never)]
pub(super) fn store(writer: &Connection, figures: Figures, next_token: Option<i64>) -> Result<(), Failure> {
    static ADD: LazyLock<String> = LazyLock::new(|| {
        let mut sql = "UPDATE phase_lease_meta SET next_token = coalesce(?1, next_token)".to_owned();
        for (column, parameter) in COLUMNS.iter().zip(2..) {
            let _ = write!(sql, ", {column} = {column} + ?{parameter}");
        }
        sql + " WHERE id = 1"
    });
    let values = std::iter::once(next_token).chain(figures.columns().map(Some));
    writer.prepare_cached(&ADD)?.execute(params_from_iter(values))?;
    Ok(())
}

/// What all processes have stored.
pub(super) fn stored(connection: &Connection) -> Result<Figures, Failure> {
    static READ: LazyLock<String> =
        LazyLock::new(|| format!("SELECT {} FROM phase_lease_meta WHERE id = 1", COLUMNS.join(", ")));
    let figures = connection.prepare_cached(&READ)?.query_row([], |row| {
        let mut figures = Figures::default();
        for (column, figure) in figures.counts.iter_mut().enumerate() {
            *figure = u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0);
        }
        Ok(figures)
    })?;
    Ok(figures)
}

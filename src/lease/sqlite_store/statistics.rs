//! Figures that the rows there are don't tell: refused acquisitions and finished holds, over all processes.
//!
//! Writing them one by one would make a refusal several times as dear. They are added up in memory, for the whole
//! process, and folded into the next write that happens anyway; a timer and the end of a manager see to the rest.
//! A process that is killed takes at most the last half second of them with it.

use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, params};

use crate::sqlite::Failure;

/// Sums of the three figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Figures {
    /// Acquisitions refused because somebody held the lease.
    pub(super) contention_events: u64,
    /// Holds that ended.
    pub(super) finished_holds: u64,
    /// How long these lasted together, in milliseconds.
    pub(super) finished_hold_ms: u64,
}

impl Figures {
    pub(super) fn refusal() -> Self {
        Self { contention_events: 1, ..Self::default() }
    }

    pub(super) fn hold(ms: i64) -> Self {
        Self { finished_holds: 1, finished_hold_ms: u64::try_from(ms).unwrap_or(0), ..Self::default() }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            contention_events: self.contention_events.saturating_add(other.contention_events),
            finished_holds: self.finished_holds.saturating_add(other.finished_holds),
            finished_hold_ms: self.finished_hold_ms.saturating_add(other.finished_hold_ms),
        }
    }

    pub(super) fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// In the order of the columns, as SQLite counts.
    pub(super) fn columns(self) -> [i64; 3] {
        [self.contention_events, self.finished_holds, self.finished_hold_ms]
            .map(|figure| i64::try_from(figure).unwrap_or(i64::MAX))
    }
}

/// What this process has counted and not yet stored.
///
/// Added to at any time; taken from only while the database's writer is held, once what was taken is committed, so
/// that whoever holds the writer sees each event either here or in the table.
#[derive(Debug, Default)]
pub(super) struct Pending {
    contention_events: AtomicU64,
    finished_holds: AtomicU64,
    finished_hold_ms: AtomicU64,
}

impl Pending {
    pub(super) fn add(&self, figures: Figures) {
        self.contention_events.fetch_add(figures.contention_events, Ordering::Relaxed);
        self.finished_hold_ms.fetch_add(figures.finished_hold_ms, Ordering::Relaxed);
        self.finished_holds.fetch_add(figures.finished_holds, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> Figures {
        Figures {
            contention_events: self.contention_events.load(Ordering::Relaxed),
            finished_holds: self.finished_holds.load(Ordering::Relaxed),
            finished_hold_ms: self.finished_hold_ms.load(Ordering::Relaxed),
        }
    }

    /// Takes off what is stored now.
    pub(super) fn subtract(&self, stored: Figures) {
        self.contention_events.fetch_sub(stored.contention_events, Ordering::Relaxed);
        self.finished_holds.fetch_sub(stored.finished_holds, Ordering::Relaxed);
        self.finished_hold_ms.fetch_sub(stored.finished_hold_ms, Ordering::Relaxed);
    }

    /// Stores what is pending, in a transaction of its own.
    pub(super) fn fold(&self, writer: &Connection) -> Result<(), Failure> {
        let figures = self.figures();
        if figures.is_zero() {
            return Ok(());
        }
        let [contention_events, finished_holds, finished_hold_ms] = figures.columns();
        // A single statement takes the write lock from its start, as BEGIN IMMEDIATE does.
        writer
            .prepare_cached(
                "UPDATE phase_lease_meta SET contention_events = contention_events + ?1,
                 finished_holds = finished_holds + ?2, finished_hold_ms = finished_hold_ms + ?3 WHERE id = 1",
            )?
            .execute(params![contention_events, finished_holds, finished_hold_ms])?;
        self.subtract(figures);
        Ok(())
    }
}

/// What all processes have stored.
pub(super) fn stored(connection: &Connection) -> Result<Figures, Failure> {
    let figures = connection
        .prepare_cached(
            "SELECT contention_events, finished_holds, finished_hold_ms FROM phase_lease_meta WHERE id = 1",
        )?
        .query_row([], |row| {
            let figure = |column| row.get::<_, i64>(column).map(|figure| u64::try_from(figure).unwrap_or(0));
            Ok(Figures {
                contention_events: figure(0)?,
                finished_holds: figure(1)?,
                finished_hold_ms: figure(2)?,
            })
        })?;
    Ok(figures)
}

//! Removing leases that expired long ago.
//!
//! An expired lease stays its owner's until somebody acquires the key, so that an owner who was held up can renew.
//! After an hour nobody is expected to.

use rusqlite::{Connection, params};

use super::queue;
use super::statistics::{Figures, Pending};
use super::term::{Now, Term, term_columns};
use super::values::Exact;
use crate::durability::Durability;
use crate::lease::presence;
use crate::sqlite::{Failure, WriteTransaction};

/// How long a lease must have been expired, in milliseconds.
const DEAD_AFTER_MS: i64 = 3_600_000;

/// Leases removed in one transaction, which then takes well under a millisecond.
const BATCH: usize = 64;

/// How far a sweep came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swept {
    /// Through the whole table.
    All,
    /// As far as one batch goes.
    Batch,
}

struct Dead {
    task: Exact,
    phase: Exact,
    lease_id: Exact,
    expires_at: Exact,
    held_ms: i64,
}

/// Removes up to a batch of long-dead leases.
pub(super) fn sweep(writer: &Connection, now: Now<'_>, pending: &Pending) -> Result<Swept, Failure> {
    // Found without the write lock, which a scan of a large table would hold for too long.
    let dead = find(writer, now)?;
    if dead.is_empty() {
        return Ok(Swept::All);
    }
    let mut figures = Figures::default();
    let transaction = WriteTransaction::begin(writer, Durability::Process)?;
    for lease in &dead {
        // Only if it is as it was found: renewed or taken over, it has another expiry or another id.
        let removed = writer
            .prepare_cached(
                "DELETE FROM phase_leases WHERE task_id = ?1 AND phase = ?2 AND lease_id = ?3 AND expires_at = ?4",
            )?
            .execute(params![lease.task, lease.phase, lease.lease_id, lease.expires_at])?;
        if removed > 0 {
            figures = figures.plus(Figures::hold(lease.held_ms));
        }
    }
    transaction.commit()?;
    pending.add(figures);
    figures.publish();
    Ok(if dead.len() < BATCH { Swept::All } else { Swept::Batch })
}

/// The files of the processes that rows name, after removing the waiters whose time is over.
pub(super) fn named_processes(writer: &Connection, now: Now<'_>) -> Result<Vec<String>, Failure> {
    queue::remove_overdue(writer, now)?;
    let mut statement = writer.prepare_cached(
        "SELECT process FROM phase_leases WHERE process IS NOT NULL UNION SELECT process FROM phase_lease_waiters",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(names.flatten().map(|name| presence::file_name(&name).to_owned()).collect())
}

fn find(connection: &Connection, now: Now<'_>) -> Result<Vec<Dead>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT task_id, phase, lease_id, expires_at, ",
        term_columns!(),
        " FROM phase_leases"
    ))?;
    let mut rows = statement.query([])?;
    let mut dead = Vec::new();
    while dead.len() < BATCH
        && let Some(row) = rows.next()?
    {
        let term = Term::read(row, 4)?;
        if term.expired_for_ms(now).is_some_and(|ms| ms > DEAD_AFTER_MS) {
            dead.push(Dead {
                task: row.get(0)?,
                phase: row.get(1)?,
                lease_id: row.get(2)?,
                expires_at: row.get(3)?,
                held_ms: term.held_until_expiry_ms(),
            });
        }
    }
    Ok(dead)
}

//! The operations that only read.

use rusqlite::{Connection, OptionalExtension, Row};

use super::term::{Now, Term, term_columns};
use super::values::{Bound, is_text, text};
use crate::lease::model::{Lease, LeaseKey, LeaseStats};
use crate::sqlite::Failure;
use crate::text::Text;

/// The lease for a key, also an expired one.
pub(super) fn get(reader: &Connection, key: LeaseKey<'_>) -> Result<Option<Lease>, Failure> {
    let mut statement = reader.prepare_cached(
        "SELECT lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count, fencing_token
         FROM phase_leases WHERE task_id = ?1 AND phase = ?2",
    )?;
    let lease = statement.query_row([Bound(key.task), Bound(key.phase)], read_lease).optional()?;
    Ok(lease)
}

/// The process that has the lease of a key, if that is known.
pub(super) fn process(reader: &Connection, key: LeaseKey<'_>) -> Result<Option<String>, Failure> {
    let process = reader
        .prepare_cached("SELECT process FROM phase_leases WHERE task_id = ?1 AND phase = ?2")?
        .query_row([Bound(key.task), Bound(key.phase)], |row| row.get::<_, Option<String>>(0))
        .optional()?;
    Ok(process.flatten())
}

pub(super) fn read_lease(row: &Row<'_>) -> rusqlite::Result<Lease> {
    let string = |column| -> rusqlite::Result<String> {
        Ok(text(row.get_ref(column)?).to_string_lossy().into_owned())
    };
    Ok(Lease {
        lease_id: string(0)?,
        task_id: text(row.get_ref(1)?),
        phase: text(row.get_ref(2)?),
        agent_id: text(row.get_ref(3)?),
        acquired_at: string(4)?,
        expires_at: string(5)?,
        renewed_count: count(row, 6),
        fencing_token: row.get(7).unwrap_or(0),
    })
}

/// Whether the holder has a lease for the key that has not expired.
pub(super) fn holds(
    reader: &Connection,
    key: LeaseKey<'_>,
    holder: &Text,
    now: Now<'_>,
) -> Result<bool, Failure> {
    let mut statement = reader.prepare_cached(concat!(
        "SELECT agent_id, ",
        term_columns!(),
        " FROM phase_leases WHERE task_id = ?1 AND phase = ?2"
    ))?;
    let holds = statement
        .query_row([Bound(key.task), Bound(key.phase)], |row| {
            Ok(is_text(row.get_ref(0)?, holder) && Term::read(row, 1)?.remaining_ms(now) > 0)
        })
        .optional()?;
    Ok(holds.unwrap_or(false))
}

/// The figures that the rows there are tell.
pub(super) fn count_leases(reader: &Connection, now: Now<'_>) -> Result<LeaseStats, Failure> {
    let mut statement =
        reader.prepare_cached(concat!("SELECT renewed_count, ", term_columns!(), " FROM phase_leases"))?;
    let mut rows = statement.query([])?;
    let mut stats = LeaseStats::default();
    while let Some(row) = rows.next()? {
        stats.total_leases += 1;
        stats.max_renewals = stats.max_renewals.max(count(row, 0));
        if Term::read(row, 1)?.remaining_ms(now) > 0 {
            stats.active_leases += 1;
        } else {
            stats.expired_leases += 1;
        }
    }
    Ok(stats)
}

/// A count in a column; 0 for what is none.
fn count(row: &Row<'_>, column: usize) -> u64 {
    row.get::<_, i64>(column).ok().and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

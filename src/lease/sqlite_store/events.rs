//! What happened to leases without their holders' doing: kept for those who watch and for those who ask later.

use rusqlite::{Connection, params};

use super::term::Now;
use super::values::{Bound, text};
use crate::clock::iso_timestamp;
use crate::lease::claim::{EventKind, LeaseEvent};
use crate::lease::model::LeaseKey;
use crate::sqlite::Failure;
use crate::text::Text;

/// How many events of each kind are kept at least; the oldest go.
const KEPT: i64 = 10_000;

/// How many are recorded between two looks for those that are too many.
const TRIM_INTERVAL: i64 = 100;

/// Records an event, in the transaction of what happened.
#[allow(clippy::too_many_arguments, reason = "the columns")]
pub(super) fn record(
    writer: &Connection,
    kind: EventKind,
    key: LeaseKey<'_>,
    agent: &Text,
    token: Option<i64>,
    by: Option<&Text>,
    reason: Option<&Text>,
    now: Now<'_>,
) -> Result<(), Failure> {
    writer
        .prepare_cached(
            "INSERT INTO phase_lease_events (kind, at, task_id, phase, agent_id, fencing_token, by, reason)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            kind.name(),
            iso_timestamp(now.wall_ms),
            Bound(key.task),
            Bound(key.phase),
            Bound(agent),
            token,
            by.map(Bound),
            reason.map(Bound),
        ])?;
    if writer.last_insert_rowid() % TRIM_INTERVAL == 0 {
        // Each kind by itself: a flood of one leaves the others.
        writer
            .prepare_cached(
                "DELETE FROM phase_lease_events WHERE kind = ?1 AND id <= (
                   SELECT id FROM phase_lease_events WHERE kind = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![kind.name(), KEPT])?;
    }
    Ok(())
}

/// The events after the one of this id, oldest first.
pub(super) fn after(reader: &Connection, id: i64) -> Result<Vec<LeaseEvent>, Failure> {
    let mut statement = reader.prepare_cached(
        "SELECT id, kind, at, task_id, phase, agent_id, fencing_token, by, reason
         FROM phase_lease_events WHERE id > ?1 ORDER BY id",
    )?;
    let mut rows = statement.query([id])?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        let kind: String = row.get(1)?;
        // One of a later version is left to it.
        let Some(kind) = EventKind::ALL.into_iter().find(|known| known.name() == kind) else { continue };
        let optional = |column| -> rusqlite::Result<Option<Text>> {
            let value = row.get_ref(column)?;
            Ok((value != rusqlite::types::ValueRef::Null).then(|| text(value)))
        };
        events.push(LeaseEvent {
            id: row.get(0)?,
            kind,
            at: row.get(2)?,
            task_id: text(row.get_ref(3)?),
            phase: text(row.get_ref(4)?),
            agent_id: text(row.get_ref(5)?),
            fencing_token: row.get(6)?,
            by: optional(7)?,
            reason: optional(8)?,
        });
    }
    Ok(events)
}

/// The id of the latest event; 0 without any.
pub(super) fn latest(reader: &Connection) -> Result<i64, Failure> {
    let id = reader
        .prepare_cached("SELECT coalesce(max(id), 0) FROM phase_lease_events")?
        .query_row([], |row| row.get(0))?;
    Ok(id)
}

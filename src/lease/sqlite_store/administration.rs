//! What operators ask and do, and the check of a fence.

use rusqlite::{Connection, OptionalExtension, params};

use super::changes;
use super::events;
use super::queries::{self, read_lease};
use super::statistics::Figures;
use super::term::{Now, Term, term_columns};
use super::values::{Bound, text};
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::lease::claim::{EventKind, Fence, ListedLease};
use crate::lease::model::{Lease, LeaseKey};
use crate::lease::presence;
use crate::sqlite::{Failure, WriteTransaction};
use crate::text::Text;

/// All leases, by task and phase.
pub(super) fn list(reader: &Connection, now: Now<'_>) -> Result<Vec<ListedLease>, Failure> {
    let mut statement = reader.prepare_cached(concat!(
        "SELECT lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count, fencing_token, process,
           (SELECT count(*) FROM phase_lease_waiters AS waiter WHERE waiter.task_id = lease.task_id
             AND waiter.phase = lease.phase AND waiter.boot_id IS ?1 AND waiter.until_boot_ms > ?2), ",
        term_columns!(),
        " FROM phase_leases AS lease ORDER BY task_id, phase"
    ))?;
    let mut rows = statement.query(params![now.boot_id, now.boot_ms])?;
    let mut leases = Vec::new();
    while let Some(row) = rows.next()? {
        let process: Option<String> = row.get(8).unwrap_or(None);
        let term = Term::read(row, 10)?;
        let process = process.filter(|_| term.is_of_its_process());
        leases.push(ListedLease {
            lease: read_lease(row)?,
            process: process.and_then(|name| presence::parts(&name).map(|(id, host)| (id, host.to_owned()))),
            held_ms: term.held_ms(now),
            remaining_ms: term.remaining_ms(now).max(0),
            waiters: row.get::<_, i64>(9)?.try_into().unwrap_or(0),
        });
    }
    Ok(leases)
}

/// Ends a lease, whoever's it is, with a record; the lease and the figures of the hold, if there was one.
pub(super) fn force_release(
    writer: &Connection,
    key: LeaseKey<'_>,
    by: &Text,
    reason: &Text,
    now: Now<'_>,
    durability: Durability,
) -> Result<Option<(Lease, Figures)>, Failure> {
    let transaction = WriteTransaction::begin(writer, durability)?;
    let Some(lease) = queries::get(writer, key)? else { return Ok(None) };
    let figures = changes::end(writer, key, now)?;
    let (kind, token) = (EventKind::ForcedRelease, Some(lease.fencing_token));
    events::record(writer, kind, key, &lease.agent_id, token, Some(by), Some(reason), now)?;
    transaction.commit()?;
    Ok(Some((lease, figures)))
}

/// Runs `work` under the write lock if the fence's lease is the newest one of its key. Nothing is written to the
/// database, so there is nothing to commit.
pub(super) fn fenced(
    writer: &Connection,
    fence: &Fence,
    work: &mut dyn FnMut() -> Result<()>,
) -> Result<Result<()>, Failure> {
    let _lock = WriteTransaction::begin(writer, Durability::Process)?;
    let found = writer
        .prepare_cached(
            "SELECT lease_id, fencing_token, agent_id FROM phase_leases WHERE task_id = ?1 AND phase = ?2",
        )?
        .query_row([Bound(&fence.key.task), Bound(&fence.key.phase)], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?.unwrap_or(0), text(row.get_ref(2)?)))
        })
        .optional()?;
    Ok(match found {
        Some((id, token, _)) if id == fence.lease_id && token == fence.token => work(),
        Some((id, token, agent)) => {
            Err(refused(fence, format!("{agent} has it now, by lease {id}, token {token}")))
        }
        None => Err(refused(fence, "it was released".to_owned())),
    })
}

fn refused(fence: &Fence, newer: String) -> Error {
    Error::Fenced {
        task: fence.key.task.clone(),
        phase: fence.key.phase.clone(),
        lease_id: fence.lease_id.clone(),
        newer,
    }
}

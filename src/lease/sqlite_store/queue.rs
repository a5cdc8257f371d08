//! The queue for each key.
//!
//! A waiter counts until its time is over or its process is known to be dead; one of another boot is over. Since when a
//! free key is free stands in the rows of those who wait for it, set by whoever releases it, or, where an old program
//! deleted the lease, by the first who notices.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::term::{Now, Term, term_columns};
use super::values::{Bound, text};
use crate::lease::claim::{Claim, Ticket};
use crate::lease::model::LeaseKey;
use crate::sqlite::Failure;
use crate::text::Text;

/// How long a free key is kept for each of those who are first in its queue, in milliseconds.
pub(super) const CHANCE_MS: i64 = 50;

/// Somebody who waits for a key.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) agent: Text,
    pub(super) process: String,
    free_since_boot_ms: Option<i64>,
}

/// Appends a claim to the queues of its keys.
pub(super) fn enqueue(
    writer: &Connection,
    claim: &Claim,
    process: &str,
    now: Now<'_>,
) -> Result<Ticket, Failure> {
    let mut ticket = None;
    for key in &claim.keys {
        let mut statement = writer.prepare_cached(
            "INSERT INTO phase_lease_waiters
             (ticket, task_id, phase, agent_id, process, boot_id, until_boot_ms, free_since_boot_ms)
             VALUES (coalesce(?1, (SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence
               WHERE name = 'phase_lease_waiters')), ?2, ?3, ?4, ?5, ?6, ?7,
               (SELECT min(free_since_boot_ms) FROM phase_lease_waiters WHERE task_id = ?2 AND phase = ?3))",
        )?;
        statement.execute(params![
            ticket,
            Bound(&key.task),
            Bound(&key.phase),
            Bound(&claim.holder),
            process,
            now.boot_id,
            now.boot_ms.saturating_add(claim.queue_ms),
        ])?;
        // The first row's own id, which is the next of the sequence.
        ticket.get_or_insert_with(|| writer.last_insert_rowid());
    }
    Ok(Ticket(ticket.unwrap_or_default()))
}

/// Those who wait for a key before the one with this ticket, in their order; all who wait, without.
pub(super) fn before(
    connection: &Connection,
    key: LeaseKey<'_>,
    ticket: Option<Ticket>,
    now: Now<'_>,
) -> Result<Vec<Waiter>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT agent_id, process, free_since_boot_ms FROM phase_lease_waiters
         WHERE task_id = ?1 AND phase = ?2 AND ticket < ?3 AND boot_id IS ?4 AND until_boot_ms > ?5
         ORDER BY ticket",
    )?;
    let before = ticket.map_or(i64::MAX, |Ticket(ticket)| ticket);
    let mut rows =
        statement.query(params![Bound(key.task), Bound(key.phase), before, now.boot_id, now.boot_ms])?;
    let mut waiters = Vec::new();
    while let Some(row) = rows.next()? {
        waiters.push(Waiter {
            agent: text(row.get_ref(0)?),
            process: row.get(1)?,
            free_since_boot_ms: row.get(2)?,
        });
    }
    Ok(waiters)
}

/// Whether those before have had their chance at a key that is free, since `free_for_ms` or as their rows tell.
pub(super) fn is_passed_over(before: &[Waiter], free_for_ms: Option<i64>, now: Now<'_>) -> bool {
    let chances = CHANCE_MS.saturating_mul(i64::try_from(before.len()).unwrap_or(i64::MAX));
    let told = before.iter().filter_map(|waiter| waiter.free_since_boot_ms).min();
    let free_for_ms = free_for_ms.or_else(|| Some(now.boot_ms.saturating_sub(told?)));
    before.is_empty() || free_for_ms.is_some_and(|ms| ms >= chances)
}

/// Notes since when a key is free, for those who wait for it.
pub(super) fn mark_free(writer: &Connection, key: LeaseKey<'_>, now: Now<'_>) -> Result<(), Failure> {
    writer
        .prepare_cached(
            "UPDATE phase_lease_waiters SET free_since_boot_ms = ?3
             WHERE task_id = ?1 AND phase = ?2 AND free_since_boot_ms IS NULL",
        )?
        .execute(params![Bound(key.task), Bound(key.phase), now.boot_ms])?;
    Ok(())
}

/// Notes since when keys without a lease are free, whichever they are.
pub(super) fn mark_all_free(writer: &Connection, now: Now<'_>) -> Result<(), Failure> {
    writer
        .prepare_cached(
            "UPDATE phase_lease_waiters SET free_since_boot_ms = ?1 WHERE free_since_boot_ms IS NULL
             AND NOT EXISTS (SELECT 1 FROM phase_leases AS lease
               WHERE lease.task_id = phase_lease_waiters.task_id AND lease.phase = phase_lease_waiters.phase)",
        )?
        .execute([now.boot_ms])?;
    Ok(())
}

/// Notes that a key is no longer free.
pub(super) fn mark_taken(writer: &Connection, key: LeaseKey<'_>) -> Result<(), Failure> {
    writer
        .prepare_cached(
            "UPDATE phase_lease_waiters SET free_since_boot_ms = NULL
             WHERE task_id = ?1 AND phase = ?2 AND free_since_boot_ms IS NOT NULL",
        )?
        .execute(params![Bound(key.task), Bound(key.phase)])?;
    Ok(())
}

/// Gives up a place; says whether it was still there.
pub(super) fn leave(writer: &Connection, ticket: Ticket) -> Result<bool, Failure> {
    let left =
        writer.prepare_cached("DELETE FROM phase_lease_waiters WHERE ticket = ?1")?.execute([ticket.0])?;
    Ok(left > 0)
}

/// Removes those of another boot and those whose time is over, whom nobody else removes if their process is dead.
pub(super) fn remove_overdue(writer: &Connection, now: Now<'_>) -> Result<(), Failure> {
    writer
        .prepare_cached("DELETE FROM phase_lease_waiters WHERE boot_id IS NOT ?1 OR until_boot_ms <= ?2")?
        .execute(params![now.boot_id, now.boot_ms])?;
    Ok(())
}

/// A claim's place at a key.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) ticket: Ticket,
    pub(super) task: Text,
    pub(super) phase: Text,
    /// Whether somebody has the key.
    pub(super) is_held: bool,
    /// The process that has it or had it, if that is known.
    pub(super) holder: Option<String>,
    /// For how many milliseconds an expired lease has been free.
    pub(super) free_for_ms: Option<i64>,
}

/// The places of this process's waiters, in their order.
pub(super) fn places(reader: &Connection, process: &str, now: Now<'_>) -> Result<Vec<Place>, Failure> {
    let mut statement = reader.prepare_cached(concat!(
        "SELECT waiter.ticket, waiter.task_id, waiter.phase, lease.agent_id, lease.process, ",
        term_columns!("lease."),
        " FROM phase_lease_waiters AS waiter
         LEFT JOIN phase_leases AS lease ON lease.task_id = waiter.task_id AND lease.phase = waiter.phase
         WHERE waiter.process = ?1 ORDER BY waiter.ticket"
    ))?;
    let mut rows = statement.query([process])?;
    let mut places = Vec::new();
    while let Some(row) = rows.next()? {
        let term = (row.get_ref(3)? != ValueRef::Null).then(|| Term::read(row, 5)).transpose()?;
        let is_held = term.is_some_and(|term| term.remaining_ms(now) > 0);
        places.push(Place {
            ticket: Ticket(row.get(0)?),
            task: text(row.get_ref(1)?),
            phase: text(row.get_ref(2)?),
            is_held,
            holder: row.get(4).unwrap_or(None),
            free_for_ms: term.filter(|_| !is_held).and_then(|term| term.expired_for_ms(now)),
        });
    }
    Ok(places)
}

//! The operations that write. Each is one try on the writing connection: done as a whole, or not at all.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::statistics::{Figures, Pending};
use super::term::{NewTerm, Now, Term, term_columns};
use super::tokens::{Sequence, TokenSource};
use super::values::{Bound, text};
use crate::clock::iso_timestamp;
use crate::lease::model::{Acquisition, Lease, LeaseKey, Renewal};
use crate::lease::store::LeaseTerms;
use crate::sqlite::{Durability, Failure, WriteTransaction};
use crate::text::Text;

/// What there is for a key.
#[derive(Debug)]
enum Found {
    Nothing,
    Live { holder: Text, remaining_ms: i64 },
    Expired { held_ms: i64 },
}

/// What became of an attempt to acquire.
#[derive(Debug)]
pub(super) enum Attempt {
    Answer(Acquisition),
    /// The sequence of tokens has to be prepared first, which syncs the disk.
    NeedsTokens,
}

/// Looks without the write lock whether somebody has the lease: a refusal costs a read, on a busy database too.
pub(super) fn find_holder(
    connection: &Connection,
    key: LeaseKey<'_>,
    now: Now<'_>,
) -> Result<Option<Acquisition>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT agent_id, ",
        term_columns!(),
        " FROM phase_leases WHERE task_id = ?1 AND phase = ?2"
    ))?;
    let found = statement
        .query_row([Bound(key.task), Bound(key.phase)], |row| {
            let remaining_ms = Term::read(row, 1)?.remaining_ms(now);
            if remaining_ms <= 0 {
                return Ok(None);
            }
            Ok(Some(Acquisition::Held { holder: text(row.get_ref(0)?), remaining_ms }))
        })
        .optional()?;
    Ok(found.flatten())
}

/// Grants the lease unless it is held.
pub(super) fn acquire(
    writer: &Connection,
    key: LeaseKey<'_>,
    terms: LeaseTerms<'_>,
    now: Now<'_>,
    tokens: &TokenSource,
    pending: &Pending,
) -> Result<Attempt, Failure> {
    let transaction = WriteTransaction::begin(writer, Durability::Process)?;
    let (sequence, found) = look(writer, key, now)?;
    let ended = match found {
        Found::Live { holder, remaining_ms } => {
            return Ok(Attempt::Answer(Acquisition::Held { holder, remaining_ms }));
        }
        _ if !tokens.can_take(sequence, now.boot_id) => return Ok(Attempt::NeedsTokens),
        Found::Expired { held_ms } => Some(held_ms),
        Found::Nothing => None,
    };
    let (lease, term) = new_lease(key, terms, now, sequence.next);
    write(writer, &lease, &term, now, ended.is_some())?;

    let counted = pending.figures();
    let [contention_events, finished_holds, finished_hold_ms] =
        counted.plus(ended.map(Figures::hold).unwrap_or_default()).columns();
    writer
        .prepare_cached(
            "UPDATE phase_lease_meta SET next_token = ?1, contention_events = contention_events + ?2,
             finished_holds = finished_holds + ?3, finished_hold_ms = finished_hold_ms + ?4 WHERE id = 1",
        )?
        .execute(params![sequence.next + 1, contention_events, finished_holds, finished_hold_ms])?;
    transaction.commit()?;
    pending.subtract(counted);
    Ok(Attempt::Answer(Acquisition::Acquired(lease)))
}

fn look(writer: &Connection, key: LeaseKey<'_>, now: Now<'_>) -> Result<(Sequence, Found), Failure> {
    let mut statement = writer.prepare_cached(concat!(
        "SELECT m.next_token, m.token_ceiling, m.token_boot_id IS ?3, l.task_id IS NULL, l.agent_id, ",
        term_columns!(),
        " FROM phase_lease_meta AS m LEFT JOIN phase_leases AS l ON l.task_id = ?1 AND l.phase = ?2
         WHERE m.id = 1"
    ))?;
    let answer = statement.query_row(params![Bound(key.task), Bound(key.phase), now.boot_id], |row| {
        let sequence = Sequence { next: row.get(0)?, ceiling: row.get(1)?, is_of_this_boot: row.get(2)? };
        if row.get(3)? {
            return Ok((sequence, Found::Nothing));
        }
        let term = Term::read(row, 5)?;
        let found = match term.remaining_ms(now) {
            remaining_ms @ 1.. => Found::Live { holder: text(row.get_ref(4)?), remaining_ms },
            _ => Found::Expired { held_ms: term.held_until_expiry_ms() },
        };
        Ok((sequence, found))
    })?;
    Ok(answer)
}

fn new_lease(key: LeaseKey<'_>, terms: LeaseTerms<'_>, now: Now<'_>, token: i64) -> (Lease, NewTerm) {
    let term = NewTerm::starting(now, terms.duration_ms);
    let lease = Lease {
        lease_id: Uuid::new_v4().to_string(),
        task_id: key.task.clone(),
        phase: key.phase.clone(),
        agent_id: terms.holder.clone(),
        acquired_at: iso_timestamp(now.wall_ms),
        expires_at: term.expires_at.clone(),
        renewed_count: 0,
        fencing_token: token,
    };
    (lease, term)
}

/// Writes the row of a lease, over the expired one if there is one.
fn write(
    writer: &Connection,
    lease: &Lease,
    term: &NewTerm,
    now: Now<'_>,
    replaces: bool,
) -> Result<(), Failure> {
    let mut statement = writer.prepare_cached(if replaces {
        "UPDATE phase_leases SET lease_id = ?3, agent_id = ?4, acquired_at = ?5, expires_at = ?6,
         renewed_count = 0, fencing_token = ?7, boot_id = ?8, acquired_boot_ms = ?9, deadline_boot_ms = ?10,
         expires_wall_ms = ?11 WHERE task_id = ?1 AND phase = ?2"
    } else {
        "INSERT INTO phase_leases (task_id, phase, lease_id, agent_id, acquired_at, expires_at, renewed_count,
         fencing_token, boot_id, acquired_boot_ms, deadline_boot_ms, expires_wall_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11)"
    })?;
    statement.execute(params![
        Bound(&lease.task_id),
        Bound(&lease.phase),
        lease.lease_id,
        Bound(&lease.agent_id),
        lease.acquired_at,
        lease.expires_at,
        lease.fencing_token,
        now.boot_id,
        now.boot_ms,
        term.deadline_boot_ms,
        term.expires_wall_ms,
    ])?;
    Ok(())
}

/// Extends the holder's lease.
pub(super) fn renew(
    writer: &Connection,
    key: LeaseKey<'_>,
    terms: LeaseTerms<'_>,
    max_renewals: u64,
    now: Now<'_>,
) -> Result<Renewal, Failure> {
    let term = NewTerm::starting(now, terms.duration_ms);
    // One statement, which takes the write lock from its start, as BEGIN IMMEDIATE does. A boot time of another boot
    // says nothing in this one.
    let renewed = writer
        .prepare_cached(
            "UPDATE phase_leases SET expires_at = ?4, renewed_count = renewed_count + 1,
             acquired_boot_ms = CASE WHEN boot_id IS ?5 THEN acquired_boot_ms END,
             boot_id = ?5, deadline_boot_ms = ?6, expires_wall_ms = ?7
             WHERE task_id = ?1 AND phase = ?2 AND agent_id = ?3 AND renewed_count < ?8",
        )?
        .execute(params![
            Bound(key.task),
            Bound(key.phase),
            Bound(terms.holder),
            term.expires_at,
            now.boot_id,
            term.deadline_boot_ms,
            term.expires_wall_ms,
            i64::try_from(max_renewals).unwrap_or(i64::MAX),
        ])?;
    if renewed > 0 {
        return Ok(Renewal::Renewed { expires_at_ms: term.expires_wall_ms });
    }
    // Whatever happened since, the answer is true at one moment of the call.
    let is_holder: bool = writer
        .prepare_cached(
            "SELECT count(*) FROM phase_leases WHERE task_id = ?1 AND phase = ?2 AND agent_id = ?3",
        )?
        .query_row([Bound(key.task), Bound(key.phase), Bound(terms.holder)], |row| row.get(0))?;
    Ok(if is_holder { Renewal::MaxRenewalsExceeded } else { Renewal::NotHeld })
}

/// Removes the holder's lease; the figures of the hold that ended, if there was one.
pub(super) fn release(
    writer: &Connection,
    key: LeaseKey<'_>,
    holder: &Text,
    now: Now<'_>,
) -> Result<Figures, Failure> {
    let mut statement = writer.prepare_cached(concat!(
        "DELETE FROM phase_leases WHERE task_id = ?1 AND phase = ?2 AND agent_id = ?3 RETURNING ",
        term_columns!()
    ))?;
    ended_holds(statement.query([Bound(key.task), Bound(key.phase), Bound(holder)])?, now)
}

/// Removes all leases of the holder; the figures of the holds that ended.
pub(super) fn release_all(writer: &Connection, holder: &Text, now: Now<'_>) -> Result<Figures, Failure> {
    let mut statement = writer.prepare_cached(concat!(
        "DELETE FROM phase_leases WHERE agent_id = ?1 RETURNING ",
        term_columns!()
    ))?;
    ended_holds(statement.query([Bound(holder)])?, now)
}

/// Reads to the end: only then has the deletion been committed.
fn ended_holds(mut rows: rusqlite::Rows<'_>, now: Now<'_>) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    while let Some(row) = rows.next()? {
        figures = figures.plus(Figures::hold(Term::read(row, 0)?.held_ms(now)));
    }
    Ok(figures)
}

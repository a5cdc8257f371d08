//! The operations that write. Each is one try on the writing connection: done as a whole, or not at all.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows, params};
use uuid::Uuid;

use super::claims::is_held_by;
use super::events;
use super::queue;
use super::statistics::{self, Figure, Figures};
use super::term::{NewTerm, Now, Term, term_columns};
use super::tokens::Taken;
use super::upkeep::Upkeep;
use super::values::{Bound, text};
use crate::clock::iso_timestamp;
use crate::durability::Durability;
use crate::lease::claim::EventKind;
use crate::lease::model::{Acquisition, Lease, LeaseKey, Renewal};
use crate::lease::store::LeaseTerms;
use crate::sqlite::{Failure, WriteTransaction};
use crate::text::Text;

/// What there is for a key.
#[derive(Debug)]
enum Found {
    Nothing,
    Live {
        holder: Text,
        remaining_ms: i64,
    },
    Expired {
        holder: Text,
        token: Option<i64>,
        held_ms: i64,
    },
    /// Free, and waited for.
    Wanted,
}

/// What became of an attempt to acquire.
#[derive(Debug)]
pub(super) enum Attempt {
    Answer(Acquisition),
    /// Others wait for the key: a matter for [`claims`](super::claims).
    Wanted,
    /// The sequence of tokens has to be prepared first, which syncs the disk.
    NeedsTokens,
}

/// By whom and when something is granted.
#[derive(Clone, Copy)]
pub(super) struct Granting<'a> {
    pub(super) now: Now<'a>,
    pub(super) durability: Durability,
    /// The name of this process's presence.
    pub(super) process: &'a str,
    pub(super) upkeep: &'a Arc<Upkeep>,
}

/// Grants the lease unless it is held.
///
/// A held lease is refused without the write lock: that costs a read, on a busy database too.
pub(super) fn acquire(
    writer: &Connection,
    key: LeaseKey<'_>,
    terms: LeaseTerms<'_>,
    granting: Granting<'_>,
) -> Result<Attempt, Failure> {
    let Granting { now, durability, upkeep, .. } = granting;
    // The last row is there for any key: a statement that has more to say keeps its snapshot, and the write lock is
    // given only to who reads the newest one. So what was found still holds under the lock.
    let mut look = writer.prepare_cached(concat!(
        "SELECT EXISTS (SELECT 1 FROM phase_lease_waiters WHERE task_id = ?1 AND phase = ?2),
           agent_id, fencing_token, ",
        term_columns!(),
        " FROM phase_leases WHERE task_id = ?1 AND phase = ?2
         UNION ALL SELECT EXISTS (SELECT 1 FROM phase_lease_waiters WHERE task_id = ?1 AND phase = ?2),
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
         UNION ALL SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL"
    ))?;
    let mut rows = look.query([Bound(key.task), Bound(key.phase)])?;
    let mut found = find(&mut rows, now)?;
    if let Found::Live { holder, remaining_ms } = found {
        return Ok(Attempt::Answer(Acquisition::Held { holder, remaining_ms }));
    }
    // The row alone, as a transaction of its own, where nothing else is to be written.
    if durability == Durability::Process
        && matches!(found, Found::Nothing)
        && let Some(taken) = upkeep.tokens.take_set_aside(writer, now.boot_id, 1)?
    {
        match grant(writer, key, terms, taken.first, false, granting) {
            Ok(lease) => {
                upkeep.tokens.keep(taken);
                upkeep.count_one(Figure::Acquired);
                return Ok(Attempt::Answer(Acquisition::Acquired(lease)));
            }
            Err(Failure::Busy) => {}
            Err(failure) => return Err(failure),
        }
    }
    let transaction = match WriteTransaction::begin(writer, durability) {
        Ok(transaction) => {
            drop(rows);
            transaction
        }
        // Somebody has the lock, or has had it since the look.
        Err(Failure::Busy) => {
            drop(rows);
            let transaction = WriteTransaction::begin(writer, durability)?;
            found = find(&mut look.query([Bound(key.task), Bound(key.phase)])?, now)?;
            transaction
        }
        Err(failure) => return Err(failure),
    };
    let ended = match found {
        Found::Live { holder, remaining_ms } => {
            return Ok(Attempt::Answer(Acquisition::Held { holder, remaining_ms }));
        }
        Found::Wanted => return Ok(Attempt::Wanted),
        Found::Expired { holder, token, held_ms } => {
            let kind = EventKind::Expiry;
            events::record(writer, kind, key, &holder, token, Some(terms.holder), None, now)?;
            Some(held_ms)
        }
        Found::Nothing => None,
    };
    let Some(taken) = upkeep.tokens.take(writer, now.boot_id, 1)? else {
        return Ok(Attempt::NeedsTokens);
    };
    let lease = grant(writer, key, terms, taken.first, ended.is_some(), granting)?;
    commit(writer, transaction, taken, upkeep)?;
    let taken_over = |ms| Figures::hold(ms).plus(Figures::one(Figure::TakeoversExpired));
    upkeep.count(Figures::one(Figure::Acquired).plus(ended.map(taken_over).unwrap_or_default()));
    Ok(Attempt::Answer(Acquisition::Acquired(lease)))
}

fn find(rows: &mut Rows<'_>, now: Now<'_>) -> Result<Found, Failure> {
    let Some(row) = rows.next()? else { return Ok(Found::Nothing) };
    let (is_wanted, holder): (bool, _) = (row.get(0)?, row.get_ref(1)?);
    let is_there = holder != ValueRef::Null;
    let term = Term::read(row, 3)?;
    Ok(match term.remaining_ms(now) {
        remaining_ms @ 1.. if is_there => Found::Live { holder: text(holder), remaining_ms },
        _ if is_wanted => Found::Wanted,
        _ if is_there => Found::Expired {
            holder: text(holder),
            token: row.get(2).unwrap_or(None),
            held_ms: term.held_until_expiry_ms(),
        },
        _ => Found::Nothing,
    })
}

/// Commits. A transaction that has to write down where the tokens go on takes with it what there is to count.
pub(super) fn commit(
    writer: &Connection,
    transaction: WriteTransaction<'_>,
    taken: Taken,
    upkeep: &Upkeep,
) -> Result<(), Failure> {
    if let Some(next_token) = taken.stored {
        let pending = upkeep.pending.figures();
        statistics::store(writer, pending, Some(next_token))?;
        transaction.commit()?;
        upkeep.pending.subtract(pending);
    } else {
        transaction.commit()?;
    }
    upkeep.tokens.keep(taken);
    Ok(())
}

/// Writes the row of a new lease, over one that is over if there is one.
pub(super) fn grant(
    writer: &Connection,
    key: LeaseKey<'_>,
    terms: LeaseTerms<'_>,
    token: i64,
    replaces: bool,
    granting: Granting<'_>,
) -> Result<Lease, Failure> {
    let now = granting.now;
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
    let mut statement = writer.prepare_cached(if replaces {
        "UPDATE phase_leases SET lease_id = ?3, agent_id = ?4, acquired_at = ?5, expires_at = ?6,
         renewed_count = 0, fencing_token = ?7, boot_id = ?8, acquired_boot_ms = ?9, deadline_boot_ms = ?10,
         expires_wall_ms = ?11, process = ?12 WHERE task_id = ?1 AND phase = ?2"
    } else {
        "INSERT INTO phase_leases (task_id, phase, lease_id, agent_id, acquired_at, expires_at, renewed_count,
         fencing_token, boot_id, acquired_boot_ms, deadline_boot_ms, expires_wall_ms, process)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7, ?8, ?9, ?10, ?11, ?12)"
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
        granting.process,
    ])?;
    Ok(lease)
}

/// Sets when this very lease ends; says whether it is still there. A single statement, which takes the write lock from
/// its start, as BEGIN IMMEDIATE does.
pub(super) fn set_term(
    writer: &Connection,
    key: LeaseKey<'_>,
    lease_id: &str,
    term: &NewTerm,
    process: &str,
    now: Now<'_>,
) -> Result<bool, Failure> {
    // A boot time of another boot says nothing in this one.
    let changed = writer
        .prepare_cached(
            "UPDATE phase_leases SET expires_at = ?4,
             acquired_boot_ms = CASE WHEN boot_id IS ?5 THEN acquired_boot_ms END,
             boot_id = ?5, deadline_boot_ms = ?6, expires_wall_ms = ?7, process = ?8
             WHERE task_id = ?1 AND phase = ?2 AND lease_id = ?3",
        )?
        .execute(params![
            Bound(key.task),
            Bound(key.phase),
            lease_id,
            term.expires_at,
            now.boot_id,
            term.deadline_boot_ms,
            term.expires_wall_ms,
            process,
        ])?;
    Ok(changed > 0)
}

/// Extends the holder's lease.
pub(super) fn renew(
    writer: &Connection,
    key: LeaseKey<'_>,
    terms: LeaseTerms<'_>,
    max_renewals: u64,
    granting: Granting<'_>,
) -> Result<Renewal, Failure> {
    let Granting { now, durability, process, .. } = granting;
    let transaction = synced(writer, durability)?;
    let term = NewTerm::starting(now, terms.duration_ms);
    // One statement, which takes the write lock from its start, as BEGIN IMMEDIATE does. A boot time of another boot
    // says nothing in this one.
    let renewed = writer
        .prepare_cached(
            "UPDATE phase_leases SET expires_at = ?4, renewed_count = renewed_count + 1,
             acquired_boot_ms = CASE WHEN boot_id IS ?5 THEN acquired_boot_ms END,
             boot_id = ?5, deadline_boot_ms = ?6, expires_wall_ms = ?7, process = ?9
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
            process,
        ])?;
    if renewed > 0 {
        transaction.map_or(Ok(()), WriteTransaction::commit)?;
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

/// Removes the holder's lease, or only the one of this id; the figures of the hold that ended, if there was one.
pub(super) fn release(
    writer: &Connection,
    key: LeaseKey<'_>,
    holder: &Text,
    lease_id: Option<&str>,
    now: Now<'_>,
    durability: Durability,
) -> Result<Figures, Failure> {
    let parameters = params![Bound(key.task), Bound(key.phase), Bound(holder), lease_id];
    let mut look = writer.prepare_cached(concat!(
        "SELECT EXISTS (SELECT 1 FROM phase_lease_waiters WHERE task_id = ?1 AND phase = ?2), ",
        term_columns!(),
        " FROM phase_leases WHERE task_id = ?1 AND phase = ?2 AND agent_id = ?3
           AND (?4 IS NULL OR lease_id = ?4)"
    ))?;
    // As in `acquire`: while the look has not come to its end, the deletion succeeds only if it still holds.
    let mut rows = look.query(parameters)?;
    let Some(row) = rows.next()? else { return Ok(Figures::default()) };
    let figures = Figures::hold(Term::read(row, 1)?.held_ms(now));
    if durability == Durability::Process && !row.get::<_, bool>(0)? {
        match delete(writer, key) {
            Ok(()) => return Ok(figures),
            Err(Failure::Busy) => {}
            Err(failure) => return Err(failure),
        }
    }
    drop(rows);
    let transaction = WriteTransaction::begin(writer, durability)?;
    if !is_held_by(writer, key, holder, lease_id)? {
        return Ok(Figures::default());
    }
    let figures = end(writer, key, now)?;
    transaction.commit()?;
    Ok(figures)
}

/// Removes the lease of a key, whoever's it is, and tells those who wait for it; in a transaction.
pub(super) fn end(writer: &Connection, key: LeaseKey<'_>, now: Now<'_>) -> Result<Figures, Failure> {
    let mut statement = writer.prepare_cached(concat!(
        "DELETE FROM phase_leases WHERE task_id = ?1 AND phase = ?2 RETURNING ",
        term_columns!()
    ))?;
    let figures = ended_holds(statement.query([Bound(key.task), Bound(key.phase)])?, now)?;
    queue::mark_free(writer, key, now)?;
    Ok(figures)
}

fn delete(writer: &Connection, key: LeaseKey<'_>) -> Result<(), Failure> {
    writer
        .prepare_cached("DELETE FROM phase_leases WHERE task_id = ?1 AND phase = ?2")?
        .execute([Bound(key.task), Bound(key.phase)])?;
    Ok(())
}

/// Removes all leases of the holder; the figures of the holds that ended.
pub(super) fn release_all(
    writer: &Connection,
    holder: &Text,
    now: Now<'_>,
    durability: Durability,
) -> Result<Figures, Failure> {
    let transaction = WriteTransaction::begin(writer, durability)?;
    let mut statement = writer.prepare_cached(concat!(
        "DELETE FROM phase_leases WHERE agent_id = ?1 RETURNING ",
        term_columns!()
    ))?;
    let figures = ended_holds(statement.query([Bound(holder)])?, now)?;
    queue::mark_all_free(writer, now)?;
    transaction.commit()?;
    Ok(figures)
}

/// The transaction that a single statement needs only to be synced.
pub(super) fn synced(
    writer: &Connection,
    durability: Durability,
) -> Result<Option<WriteTransaction<'_>>, Failure> {
    match durability {
        Durability::PowerCut => WriteTransaction::begin(writer, durability).map(Some),
        Durability::Process => Ok(None),
    }
}

/// Reads to the end: only then has a deletion been committed.
fn ended_holds(mut rows: Rows<'_>, now: Now<'_>) -> Result<Figures, Failure> {
    let mut figures = Figures::default();
    while let Some(row) = rows.next()? {
        figures = figures.plus(Figures::hold(Term::read(row, 0)?.held_ms(now)));
    }
    Ok(figures)
}

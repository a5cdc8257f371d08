//! Claims: several leases at once, with a place in the queue, in exchange for another lease, from the dead.

use rusqlite::{Connection, OptionalExtension, params};

use super::changes::{self, Granting};
use super::events;
use super::queue;
use super::statistics::{Figure, Figures};
use super::term::{NewTerm, Now, Term, term_columns};
use super::tokens;
use super::values::{Bound, text};
use crate::error::Error;
use crate::lease::claim::{Claim, Claimed, EventKind, OwnedKey, Ticket};
use crate::lease::model::{Lease, LeaseKey};
use crate::sqlite::{Failure, WriteTransaction};
use crate::text::Text;

/// What became of an attempt at a claim.
#[derive(Debug)]
pub(super) enum Attempt {
    Answer(Claimed),
    /// The sequence of tokens has to be prepared first, which syncs the disk.
    NeedsTokens,
}

/// What there is for a key that the claim may have.
#[derive(Debug)]
enum Vacancy {
    Nothing,
    /// A lease that is over, or whose process is dead.
    Over {
        kind: EventKind,
        agent: Text,
        token: Option<i64>,
        held_ms: i64,
    },
    /// The claim's own lease.
    Own(Lease),
}

/// Why a claim can't have a key.
#[derive(Debug)]
struct Refusal {
    holder: Text,
    remaining_ms: i64,
    /// Whether nobody holds it: others are before.
    is_free: bool,
}

/// Grants all keys, or none. `dead` names processes that are known to be dead.
pub(super) fn claim(
    writer: &Connection,
    claim: &Claim,
    ticket: Option<Ticket>,
    dead: &[String],
    granting: Granting<'_>,
) -> Result<Attempt, Failure> {
    let Granting { now, durability, process, .. } = granting;
    let transaction = WriteTransaction::begin(writer, durability)?;
    if let Some((key, id)) = &claim.instead_of
        && !is_held_by(writer, key.as_key(), &claim.holder, id.as_deref())?
    {
        return Ok(Attempt::Answer(Claimed::NothingToGiveUp));
    }
    let mut vacancies = Vec::with_capacity(claim.keys.len());
    for key in &claim.keys {
        match look(writer, claim, key, ticket, dead, now)? {
            Ok(vacancy) => vacancies.push(vacancy),
            Err(Refusal { holder, remaining_ms, is_free }) => {
                if is_free {
                    queue::mark_free(writer, key.as_key(), now)?;
                }
                let ticket = match ticket {
                    None if claim.queue_ms > 0 => {
                        let place = queue::enqueue(writer, claim, process, now)?;
                        // Of several keys, those that are free already count as free from now on.
                        queue::mark_all_free(writer, now)?;
                        Some(place)
                    }
                    place => place,
                };
                transaction.commit()?;
                let key = key.clone();
                return Ok(Attempt::Answer(Claimed::Refused { key, holder, remaining_ms, ticket }));
            }
        }
    }
    let mut sequence = tokens::read(writer, now.boot_id)?;
    let mut counted = Figures::of(Figure::Acquired, claim.keys.len() as u64);
    if let Some((key, _)) = &claim.instead_of {
        counted = counted.plus(changes::end(writer, key.as_key(), now)?);
    }
    let mut leases = Vec::with_capacity(claim.keys.len());
    for (key, vacancy) in claim.keys.iter().zip(vacancies) {
        if let Vacancy::Own(lease) = vacancy {
            leases.push(prolong(writer, claim, lease, process, now)?);
            continue;
        }
        if !granting.upkeep.tokens.can_take(sequence, now.boot_id) {
            return Ok(Attempt::NeedsTokens);
        }
        let replaces = if let Vacancy::Over { kind, agent, token, held_ms } = vacancy {
            let reason = match kind {
                EventKind::TakeOver => Figure::TakeoversDeadHolder,
                EventKind::Expiry | EventKind::ForcedRelease => Figure::TakeoversExpired,
            };
            counted = counted.plus(Figures::hold(held_ms)).plus(Figures::one(reason));
            events::record(writer, kind, key.as_key(), &agent, token, Some(&claim.holder), None, now)?;
            true
        } else {
            false
        };
        leases.push(changes::grant(writer, key.as_key(), claim.terms(), sequence.next, replaces, granting)?);
        sequence.next += 1;
        queue::mark_taken(writer, key.as_key())?;
    }
    if let Some(ticket) = ticket {
        queue::leave(writer, ticket)?;
    }
    changes::store_counts(writer, sequence.next, counted, granting.upkeep, transaction)?;
    Ok(Attempt::Answer(Claimed::Granted(leases)))
}

fn look(
    writer: &Connection,
    claim: &Claim,
    key: &OwnedKey,
    ticket: Option<Ticket>,
    dead: &[String],
    now: Now<'_>,
) -> Result<Result<Vacancy, Refusal>, Failure> {
    let mut statement = writer.prepare_cached(concat!(
        "SELECT agent_id, process, fencing_token, ",
        term_columns!(),
        " FROM phase_leases WHERE task_id = ?1 AND phase = ?2"
    ))?;
    let mut rows = statement.query([Bound(&key.task), Bound(&key.phase)])?;
    let (vacancy, free_for_ms) = match rows.next()? {
        None => (Vacancy::Nothing, None),
        Some(row) => {
            let agent = text(row.get_ref(0)?);
            let process: Option<String> = row.get(1).unwrap_or(None);
            let token: Option<i64> = row.get(2).unwrap_or(None);
            let term = Term::read(row, 3)?;
            let remaining_ms = term.remaining_ms(now);
            if claim.is_reentrant && agent == claim.holder {
                drop(rows);
                return Ok(match super::queries::get(writer, key.as_key())? {
                    Some(lease) => Ok(Vacancy::Own(lease)),
                    None => Ok(Vacancy::Nothing),
                });
            }
            let is_dead = term.is_of_its_process() && process.is_some_and(|process| dead.contains(&process));
            if remaining_ms > 0 && !is_dead {
                return Ok(Err(Refusal { holder: agent, remaining_ms, is_free: false }));
            }
            if remaining_ms > 0 {
                let held_ms = term.held_ms(now);
                // Since when it is free nobody can tell; the queue's own notes do.
                (Vacancy::Over { kind: EventKind::TakeOver, agent, token, held_ms }, None)
            } else {
                let held_ms = term.held_until_expiry_ms();
                (Vacancy::Over { kind: EventKind::Expiry, agent, token, held_ms }, term.expired_for_ms(now))
            }
        }
    };
    drop(rows);
    let before = queue::before(writer, key.as_key(), ticket, now)?;
    let before: Vec<_> = before.into_iter().filter(|waiter| !dead.contains(&waiter.process)).collect();
    if queue::is_passed_over(&before, free_for_ms, now) {
        return Ok(Ok(vacancy));
    }
    let holder = before.into_iter().next().map(|waiter| waiter.agent).unwrap_or_default();
    Ok(Err(Refusal { holder, remaining_ms: 0, is_free: true }))
}

/// Gives the holder its own lease for the full duration again, by this process.
fn prolong(
    writer: &Connection,
    claim: &Claim,
    lease: Lease,
    process: &str,
    now: Now<'_>,
) -> Result<Lease, Failure> {
    let term = NewTerm::starting(now, claim.duration_ms);
    changes::set_term(writer, lease_key(&lease), &lease.lease_id, &term, process, now)?;
    Ok(Lease { expires_at: term.expires_at, ..lease })
}

fn lease_key(lease: &Lease) -> LeaseKey<'_> {
    LeaseKey { task: &lease.task_id, phase: &lease.phase }
}

/// Whether the holder has the lease of a key, and with an id whether it is this one.
pub(super) fn is_held_by(
    connection: &Connection,
    key: LeaseKey<'_>,
    holder: &Text,
    lease_id: Option<&str>,
) -> Result<bool, Failure> {
    let found = connection
        .prepare_cached(
            "SELECT 1 FROM phase_leases
             WHERE task_id = ?1 AND phase = ?2 AND agent_id = ?3 AND (?4 IS NULL OR lease_id = ?4)",
        )?
        .query_row(params![Bound(key.task), Bound(key.phase), Bound(holder), lease_id], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// The error of a claim whose lease to be given up is not the holder's.
pub(super) fn nothing_to_give_up(claim: &Claim) -> Error {
    let key = claim.instead_of.as_ref().map_or_else(|| claim.keys[0].clone(), |(key, _)| key.clone());
    let cause = "it is not held by this agent".to_owned();
    Error::LeaseLost { task: key.task, phase: key.phase, cause }
}

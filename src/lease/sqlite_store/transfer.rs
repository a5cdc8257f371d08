//! Leases that another store has granted.

use rusqlite::{Connection, params};

use super::term::{NewTerm, Now};
use super::tokens::{self, TokenSource};
use super::values::Bound;
use crate::durability::Durability;
use crate::lease::claim::ListedLease;
use crate::sqlite::{Failure, WriteTransaction};

/// No token above this one was given.
pub(super) fn highest_token(reader: &Connection, now: Now<'_>) -> Result<i64, Failure> {
    let sequence = tokens::read(reader, now.boot_id)?;
    // Of an earlier boot, a power cut may have taken back what says how far it came.
    Ok(if sequence.is_of_this_boot { sequence.next } else { sequence.next.max(sequence.ceiling) } - 1)
}

/// Takes leases in, unless there is one for their keys, and gives no token any more up to `above`.
pub(super) fn take_in(
    writer: &Connection,
    leases: &[ListedLease],
    above: i64,
    tokens: &TokenSource,
    now: Now<'_>,
) -> Result<(), Failure> {
    let transaction = WriteTransaction::begin(writer, Durability::PowerCut)?;
    let mut insert = writer.prepare(
        "INSERT INTO phase_leases (lease_id, task_id, phase, agent_id, acquired_at, expires_at, renewed_count,
           fencing_token, boot_id, acquired_boot_ms, deadline_boot_ms, expires_wall_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
    )?;
    for listed in leases {
        let lease = &listed.lease;
        let term = NewTerm::starting(now, listed.remaining_ms);
        insert.execute(params![
            lease.lease_id,
            Bound(&lease.task_id),
            Bound(&lease.phase),
            Bound(&lease.agent_id),
            lease.acquired_at,
            term.expires_at,
            i64::try_from(lease.renewed_count).unwrap_or(i64::MAX),
            lease.fencing_token,
            now.boot_id,
            now.boot_ms.saturating_sub(listed.held_ms),
            term.deadline_boot_ms,
            term.expires_wall_ms,
        ])?;
    }
    tokens.go_on_behind(writer, above)?;
    transaction.commit()
}

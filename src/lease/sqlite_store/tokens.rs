//! Fencing tokens: one rising sequence for the whole database.
//!
//! Every acquisition takes the next number in the transaction that writes the lease, so releases, expiries, restarts
//! and set clocks can't repeat one, and no trace of released leases is needed.
//!
//! A power cut could: commits are not synced one by one, so the last of them, with the numbers they handed out, may
//! be lost. Therefore tokens stay below a *ceiling* that was raised in a synced transaction before. Any state that a
//! power cut can leave behind contains that transaction, hence a ceiling above every token ever handed out. The
//! first acquisition, or opening, after a boot (the row names the boot that the sequence runs in) continues at the
//! ceiling and raises it by 2^20, synced again. Within a boot nothing is lost, whatever processes do; there only
//! the ceiling is raised when the sequence comes to it. Where the system doesn't name its boots, each process starts
//! a new range.
//!
//! Rows that old programs insert take numbers by a trigger, which can neither sync nor know the boot: those before
//! our first opening after a boot may repeat numbers that a power cut took back. Old programs show no tokens to
//! anyone, and ours go on from the ceiling.
//!
//! 2^53, up to where JavaScript counts, leaves room for 2^33 boots.

use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, params};

use crate::durability::Durability;
use crate::sqlite::{Failure, WriteTransaction};

/// The first token of a new database.
pub(super) const FIRST_TOKEN: i64 = 1;

/// How far the ceiling is raised at a time.
pub(super) const RANGE: i64 = 1 << 20;

/// The sequence as an acquisition finds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    pub(super) next: i64,
    pub(super) ceiling: i64,
    /// Whether it runs in the present boot.
    pub(super) is_of_this_boot: bool,
}

/// What this process knows about the sequence of a database.
#[derive(Debug, Default)]
pub(super) struct TokenSource {
    /// Whether this process has started a range of its own, where boots have no name.
    has_own_range: AtomicBool,
}

impl TokenSource {
    /// Whether the next token may be handed out.
    pub(super) fn can_take(&self, sequence: Sequence, boot_id: Option<&str>) -> bool {
        sequence.next < sequence.ceiling && self.is_started(sequence.is_of_this_boot, boot_id)
    }

    /// Makes the sequence fit for the present boot and raises its ceiling, if needed. Syncs the disk if so.
    pub(super) fn prepare(&self, connection: &Connection, boot_id: Option<&str>) -> Result<(), Failure> {
        let transaction = WriteTransaction::begin(connection, Durability::PowerCut)?;
        let sequence = read(connection, boot_id)?;
        if self.can_take(sequence, boot_id) {
            return Ok(());
        }
        let is_started = self.is_started(sequence.is_of_this_boot, boot_id);
        let next = if is_started { sequence.next } else { sequence.next.max(sequence.ceiling) };
        connection.execute(
            "UPDATE phase_lease_meta SET next_token = ?1, token_ceiling = ?2, token_boot_id = ?3 WHERE id = 1",
            params![next, next.max(sequence.ceiling) + RANGE, boot_id],
        )?;
        transaction.commit()?;
        self.has_own_range.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn is_started(&self, is_of_this_boot: bool, boot_id: Option<&str>) -> bool {
        match boot_id {
            Some(_) => is_of_this_boot,
            None => self.has_own_range.load(Ordering::Relaxed),
        }
    }
}

/// The sequence as it is now.
pub(super) fn read(connection: &Connection, boot_id: Option<&str>) -> Result<Sequence, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT next_token, token_ceiling, token_boot_id IS ?1 FROM phase_lease_meta WHERE id = 1",
    )?;
    let sequence = statement.query_row([boot_id], |row| {
        Ok(Sequence { next: row.get(0)?, ceiling: row.get(1)?, is_of_this_boot: row.get(2)? })
    })?;
    Ok(sequence)
}

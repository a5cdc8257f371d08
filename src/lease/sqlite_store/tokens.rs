//! Fencing tokens: one rising sequence for the whole database.
//!
//! Every acquisition takes the next number in the transaction that writes the lease, so releases, expiries, restarts
//! and set clocks can't repeat one, and no trace of released leases is needed.
//!
//! Writing the sequence with each lease would double the pages of an acquisition. So a process sets a few numbers aside
//! at a time, and goes on with them as long as no other connection has committed anything since, which SQLite tells
//! (`PRAGMA data_version`): then nobody can have been given a later number. Else it drops them and takes new ones
//! behind all that others have set aside. What a process leaves unused is never given out.
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
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};

use crate::durability::Durability;
use crate::sqlite::{Failure, WriteTransaction};

/// The first token of a new database.
pub(super) const FIRST_TOKEN: i64 = 1;

/// How far the ceiling is raised at a time.
pub(super) const RANGE: i64 = 1 << 20;

/// How many numbers are set aside at most: few enough that a second process, which makes them void, wastes none to speak
/// of, and enough that writing them down no longer counts.
const SET_ASIDE: i64 = 64;

/// The sequence as the database has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sequence {
    pub(super) next: i64,
    pub(super) ceiling: i64,
    /// Whether it runs in the present boot.
    pub(super) is_of_this_boot: bool,
}

/// Numbers that this process has set aside.
#[derive(Debug, Clone)]
struct Reserve {
    next: i64,
    end: i64,
    /// How many there were.
    size: i64,
    /// What SQLite said when nobody else had committed since.
    data_version: i64,
    boot_id: Option<String>,
}

impl Reserve {
    fn take(self, count: i64) -> Option<Taken> {
        let first = self.next;
        let left = Self { next: first + count, ..self };
        (left.next <= left.end).then_some(Taken { first, stored: None, left })
    }
}

/// Tokens for the leases of one transaction.
#[derive(Debug)]
pub(super) struct Taken {
    /// The first of them.
    pub(super) first: i64,
    /// Where the sequence in the database has to go on, if that is not where it stands.
    pub(super) stored: Option<i64>,
    left: Reserve,
}

/// What this process knows about the sequence of a database.
#[derive(Debug, Default)]
pub(super) struct TokenSource {
    reserve: Mutex<Option<Reserve>>,
    /// Whether this process has started a range of its own, where boots have no name.
    has_own_range: AtomicBool,
}

impl TokenSource {
    /// Whether the next token may be handed out.
    pub(super) fn can_take(&self, sequence: Sequence, boot_id: Option<&str>) -> bool {
        sequence.next < sequence.ceiling && self.is_started(sequence.is_of_this_boot, boot_id)
    }

    /// The next `count` tokens, in a write transaction; none if the sequence has to be prepared first.
    pub(super) fn take(
        &self,
        writer: &Connection,
        boot_id: Option<&str>,
        count: i64,
    ) -> Result<Option<Taken>, Failure> {
        let data_version = data_version(writer)?;
        let valid = self.valid(data_version, boot_id);
        let last_size = valid.as_ref().map(|reserve| reserve.size);
        if let Some(taken) = valid.and_then(|reserve| reserve.take(count)) {
            return Ok(Some(taken));
        }
        let sequence = read(writer, boot_id)?;
        let size = last_size.map_or(1, |size| (size * 2).min(SET_ASIDE)).max(count);
        let next = sequence.next;
        let end = (next + size).min(sequence.ceiling);
        if !self.is_started(sequence.is_of_this_boot, boot_id) || end - next < count {
            return Ok(None);
        }
        let boot_id = boot_id.map(str::to_owned);
        let reserve = Reserve { next, end, size, data_version, boot_id };
        Ok(reserve.take(count).map(|taken| Taken { stored: Some(end), ..taken }))
    }

    /// The next `count` of the tokens that this process has set aside. For whoever reads a snapshot and commits only if
    /// that is still the newest one.
    pub(super) fn take_set_aside(
        &self,
        writer: &Connection,
        boot_id: Option<&str>,
        count: i64,
    ) -> Result<Option<Taken>, Failure> {
        Ok(self.valid(data_version(writer)?, boot_id).and_then(|reserve| reserve.take(count)))
    }

    fn valid(&self, data_version: i64, boot_id: Option<&str>) -> Option<Reserve> {
        let known = self.lock();
        let reserve = known.as_ref()?;
        let is_valid = reserve.data_version == data_version && reserve.boot_id.as_deref() == boot_id;
        is_valid.then(|| reserve.clone())
    }

    /// To be called once the transaction that took the tokens is committed, with the writer still held.
    pub(super) fn keep(&self, taken: Taken) {
        *self.lock() = Some(taken.left);
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

    /// Lets the sequence go on behind a token, in a synced write transaction.
    pub(super) fn go_on_behind(&self, writer: &Connection, token: i64) -> Result<(), Failure> {
        // What was set aside may not be behind it.
        *self.lock() = None;
        writer.execute(
            "UPDATE phase_lease_meta SET next_token = max(next_token, ?1), token_ceiling = max(token_ceiling, ?1 + ?2)
             WHERE id = 1",
            params![token + 1, RANGE],
        )?;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Reserve>> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_started(&self, is_of_this_boot: bool, boot_id: Option<&str>) -> bool {
        match boot_id {
            Some(_) => is_of_this_boot,
            None => self.has_own_range.load(Ordering::Relaxed),
        }
    }
}

/// Which changes whenever another connection has committed something since this one looked.
fn data_version(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::schema::Schema;
    use super::*;
    use crate::sqlite::{Missing, Preparation, open};

    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// A process takes so many and commits, or is undone.
        Take { process: usize, count: i64, commits: bool },
        /// Old code inserts a lease.
        OldCode,
        /// A process ends and another takes its place.
        Replace { process: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0..2_usize, 1..4_i64, prop::bool::weighted(0.8))
                .prop_map(|(process, count, commits)| Step::Take { process, count, commits }),
            1 => Just(Step::OldCode),
            1 => (0..2_usize).prop_map(|process| Step::Replace { process }),
        ];
        // Runs of one process are where numbers that were set aside are used.
        prop::collection::vec((step, 1..40_usize), 1..12)
            .prop_map(|runs| runs.into_iter().flat_map(|(step, times)| vec![step; times]).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn tokens_rise_whoever_takes_them(steps in steps()) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tokens.db");
            let boot = Some("boot");
            let _opened = open(&path, Missing::Create, &Schema { boot_id: boot }).unwrap();
            let connect = || Connection::open(&path).unwrap();
            let old_code = connect();
            let start = || (connect(), TokenSource::default());
            let mut processes = [start(), start()];
            let (mut last, mut inserted) = (0, 0);
            for step in steps {
                match step {
                    Step::Take { process, count, commits } => {
                        let (writer, source) = &processes[process];
                        let transaction = WriteTransaction::begin(writer, Durability::Process).unwrap();
                        let taken = source.take(writer, boot, count).unwrap().unwrap();
                        if !commits {
                            continue;
                        }
                        // As a lease is, so that each transaction changes the database.
                        writer.execute("UPDATE phase_lease_meta SET contention_events = contention_events + 1", []).unwrap();
                        if let Some(next) = taken.stored {
                            writer.execute("UPDATE phase_lease_meta SET next_token = ?1", [next]).unwrap();
                        }
                        transaction.commit().unwrap();
                        prop_assert!(taken.first > last);
                        last = taken.first + count - 1;
                        source.keep(taken);
                    }
                    Step::OldCode => {
                        inserted += 1;
                        old_code.execute(
                            "INSERT INTO phase_leases (task_id, phase, lease_id, agent_id, acquired_at, expires_at)
                             VALUES (?1, 'PLAN', ?1, 'old', '', '')",
                            [inserted.to_string()],
                        ).unwrap();
                        let token: i64 = old_code.query_row(
                            "SELECT fencing_token FROM phase_leases WHERE lease_id = ?1",
                            [inserted.to_string()],
                            |row| row.get(0),
                        ).unwrap();
                        prop_assert!(token > last);
                        last = token;
                    }
                    Step::Replace { process } => processes[process] = start(),
                }
            }
        }
    }

    #[test]
    fn a_process_alone_writes_the_sequence_seldom() {
        let writer = Connection::open_in_memory().unwrap();
        Schema { boot_id: None }.perform(&writer).unwrap();
        let source = TokenSource::default();
        source.has_own_range.store(true, Ordering::Relaxed);
        let mut written = 0;
        for token in (FIRST_TOKEN..).take(1000) {
            let taken = source.take(&writer, None, 1).unwrap().unwrap();
            assert_eq!(taken.first, token);
            if let Some(next) = taken.stored {
                writer.execute("UPDATE phase_lease_meta SET next_token = ?1", [next]).unwrap();
                written += 1;
            }
            source.keep(taken);
        }
        assert!(written < 25, "{written}");
    }
}

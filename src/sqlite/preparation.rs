//! Making a database ready for use, once, however many processes want it at the same time.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::database::Database;
use super::failure::Failure;
use super::start_lock::StartLock;
use crate::backoff::Backoff;
use crate::error::{Error, Result};

/// How long an opening waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a user of a database needs to find in it.
pub(crate) trait Preparation {
    /// Whether everything is there. Only reads.
    fn is_done(&self, connection: &Connection) -> Result<bool, Failure>;

    /// Makes it so, in one transaction. Called by one process at a time, in WAL mode.
    fn perform(&self, connection: &Connection) -> Result<(), Failure>;
}

/// Brings `database` into the state that `preparation` asks for. Writes nothing if it is in that state.
///
/// Fails with [`Error::DatabaseLocked`] if others are in the way for over 5 s.
pub(super) fn prepare(database: &Database, preparation: &dyn Preparation) -> Result<()> {
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut backoff = Backoff::default();
    loop {
        match database.with_connections(|writer, reader| {
            configure(writer)?;
            let done = is_wal(writer)? && preparation.is_done(writer)?;
            if done {
                configure(reader)?;
                database.note_layout(writer, reader)?;
            }
            Ok(done)
        }) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                if let Some(_turn) = StartLock::try_take(database.path())? {
                    let performed = database.with_connections(|writer, _| {
                        switch_to_wal(writer)?;
                        preparation.perform(writer)
                    });
                    match database.noting_failed_sync(performed) {
                        Ok(()) | Err(Failure::Busy) => {}
                        Err(failure) => return Err(failure.at(database.path())),
                    }
                }
            }
            Err(Failure::Busy) => {}
            Err(failure) => return Err(failure.at(database.path())),
        }
        if Instant::now() >= deadline {
            return Err(Error::DatabaseLocked);
        }
        std::thread::sleep(backoff.next_wait());
    }
}

fn configure(connection: &Connection) -> Result<(), Failure> {
    if connection.is_readonly("main")? {
        return Err(Failure::Refused(
            "the database can't be written; give this user the right to write it".to_owned(),
        ));
    }
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    Ok(())
}

/// Whether the database is in WAL mode.
pub(crate) fn is_wal(connection: &Connection) -> Result<bool, Failure> {
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    Ok(mode.eq_ignore_ascii_case("wal"))
}

/// In bytes, for a database that is new; one that has content keeps its own. A lease is a few hundred bytes, and each
/// change writes, and checksums, whole pages: with SQLite's usual 4,096 an acquisition and release take 10 % longer.
/// (1,024 spare 5 % more, and hold only three leases.)
const PAGE_SIZE: u32 = 2048;

fn switch_to_wal(connection: &Connection) -> Result<(), Failure> {
    connection.execute_batch(&format!("PRAGMA page_size = {PAGE_SIZE}"))?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the database can't leave journal mode '{mode}' for WAL; keep the workspace on a local file system"
    )))
}

//! When to move the write-ahead log into the database.
//!
//! SQLite would do it on the thread whose commit crosses 1,000 pages, which then waits for the disk. Here the commit
//! only leaves a note, and the housekeeping thread does it on the other connection. Should that thread be stalled,
//! or never catch up, callers do it themselves from 16 MB on, so that the log has an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rusqlite::Connection;

use super::failure::Failure;

/// Pages by which the log grows from one checkpoint to the next; SQLite's own default.
const INTERVAL: u32 = 1000;

/// Pages from which on the log is made to start anew.
const LONG: i64 = 2 * 1000;

/// How often that is tried at a time.
const RESTARTS: usize = 20;

/// Bytes of log from which on callers no longer leave the work to the background.
const TOO_LONG: u64 = 16 << 20;

/// What a commit has to do about the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Background,
    InTheCall,
}

/// How long the log is, as seen by the commits of this process.
#[derive(Debug)]
pub(super) struct LogGrowth {
    pages: Arc<AtomicU32>,
    seen: AtomicU32,
    threshold: AtomicU32,
    page_size: AtomicU64,
}

impl LogGrowth {
    pub(super) fn new() -> Self {
        Self {
            pages: Arc::default(),
            seen: AtomicU32::new(0),
            threshold: AtomicU32::new(INTERVAL),
            page_size: AtomicU64::new(4096),
        }
    }

    /// Has each commit of `writer` tell the length; also ends SQLite's own automatic checkpoints there.
    pub(super) fn watch(&self, writer: &mut Connection) -> rusqlite::Result<()> {
        let pages = Arc::clone(&self.pages);
        writer.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, length| {
            pages.store(u32::try_from(length).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))
    }

    pub(super) fn set_page_size(&self, bytes: u64) {
        self.page_size.store(bytes, Ordering::Relaxed);
    }

    /// To be asked after each commit, by whoever holds the writer. Says "due" once for each interval of growth.
    pub(super) fn due(&self) -> Due {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < self.seen.swap(pages, Ordering::Relaxed) {
            // The log was checkpointed to its end and started anew.
            self.threshold.store(INTERVAL, Ordering::Relaxed);
        }
        if pages < self.threshold.load(Ordering::Relaxed) {
            return Due::Nothing;
        }
        self.threshold.store(pages.saturating_add(INTERVAL), Ordering::Relaxed);
        if u64::from(pages) * self.page_size.load(Ordering::Relaxed) < TOO_LONG {
            Due::Background
        } else {
            Due::InTheCall
        }
    }
}

/// Moves as much of the log into the database as no reader still needs; waits for nobody.
///
/// The log starts anew with the first write that finds all of it in the database, and nobody reading the log. Where
/// several processes write without a pause there is always something left, and the log would grow for ever. So if it is
/// long by now, what is left is moved while the write lock keeps others from adding to it.
pub(super) fn checkpoint(connection: &Connection) -> Result<(), Failure> {
    let pages: i64 =
        connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |row| row.get(1))?;
    if pages < LONG {
        return Ok(());
    }
    for _ in 0..RESTARTS {
        let is_busy: bool =
            connection.prepare_cached("PRAGMA wal_checkpoint(RESTART)")?.query_row([], |row| row.get(0))?;
        if !is_busy {
            break;
        }
        std::thread::yield_now();
    }
    Ok(())
}

/// Moves all of the log into the database and empties it; [`Failure::Busy`] while somebody still needs it.
pub(super) fn empty_log(connection: &Connection) -> Result<(), Failure> {
    let is_busy: bool =
        connection.prepare_cached("PRAGMA wal_checkpoint(TRUNCATE)")?.query_row([], |row| row.get(0))?;
    if is_busy { Err(Failure::Busy) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_interval_is_due_once_and_a_long_log_in_the_call() {
        let growth = LogGrowth::new();
        let at = |pages: u32| {
            growth.pages.store(pages, Ordering::Relaxed);
            growth.due()
        };
        assert_eq!(at(999), Due::Nothing);
        assert_eq!(at(1001), Due::Background);
        assert_eq!(at(1500), Due::Nothing);
        assert_eq!(at(2001), Due::Background);
        assert_eq!(at(5), Due::Nothing);
        assert_eq!(at(1000), Due::Background);
        assert_eq!(at(4096), Due::InTheCall);
        assert_eq!(at(4097), Due::Nothing);
    }
}

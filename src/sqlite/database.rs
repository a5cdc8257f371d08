//! The two connections of this process to one database.

use std::any::Any;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::ffi::ErrorCode;
use rusqlite::{Connection, OpenFlags};

use super::checkpoint::{Due, LogGrowth, checkpoint, empty_log};
use super::contention::Contention;
use super::descriptors;
use super::failure::Failure;
use super::housekeeping::{self, Chore};
use crate::error::{Error, Result};
use crate::files::FileId;
use crate::patience::Patience;

/// Descriptors of the database file that an open pair has.
const FILE_DESCRIPTORS: usize = 2;

/// Descriptors of the `-shm` file; SQLite shares one between the connections of a process.
const SHARED_MEMORY_DESCRIPTORS: usize = 1;

/// How often a taken connection is looked at again before the caller is told; a few microseconds in all.
const SPINS: u32 = 60;

/// Why there is no connection to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// Another thread uses it just now.
    Taken,
    /// The pair was closed since the caller got hold of it.
    Closed,
}

/// The pair of connections: one writes, the other reads and checkpoints.
pub(crate) struct Database {
    path: PathBuf,
    identity: FileId,
    /// Opened first, so that SQLite's shared lock on the file sits on this one's descriptor; it is closed last.
    writer: Mutex<Option<Connection>>,
    reader: Mutex<Option<Connection>>,
    /// Whether anybody wants it; if not, it is parked and must not write. Changes while both connections are held.
    in_use: AtomicBool,
    shared_memory: OnceLock<FileId>,
    log: LogGrowth,
    contention: Contention,
    /// Whether a sync has failed and what the log then held has not been moved into the database yet.
    is_in_doubt: AtomicBool,
    attachment: OnceLock<Arc<dyn Any + Send + Sync>>,
    myself: Weak<Database>,
}

/// The use of a connection; others wait until it is dropped.
pub(crate) struct Borrowed<'a>(MutexGuard<'a, Option<Connection>>);

impl Deref for Borrowed<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        // Every constructor checks, and nothing takes the connection out of a guard.
        self.0.as_ref().unwrap_or_else(|| unreachable!("a borrowed connection is open"))
    }
}

impl Database {
    /// Opens both connections and reads nothing yet. Creates the file if `create` is set.
    pub(super) fn open(path: &Path, create: bool) -> Result<Arc<Self>> {
        let mut writer = connect(path, create)?;
        let identity = identify(path)?;
        let reader = connect(path, false)?;
        if identify(path)? != identity {
            return Err(
                Failure::Refused("the file was replaced while it was opened; try again".to_owned()).at(path)
            );
        }
        let log = LogGrowth::new();
        log.watch(&mut writer).map_err(|error| Failure::from(error).at(path))?;
        Ok(Arc::new_cyclic(|myself| Self {
            path: path.to_owned(),
            identity,
            writer: Mutex::new(Some(writer)),
            reader: Mutex::new(Some(reader)),
            in_use: AtomicBool::new(true),
            shared_memory: OnceLock::new(),
            log,
            contention: Contention::new(),
            is_in_doubt: AtomicBool::new(false),
            attachment: OnceLock::new(),
            myself: Weak::clone(myself),
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn identity(&self) -> FileId {
        self.identity
    }

    /// Whether anybody wants the database. Certain only while a connection of it is held.
    pub(crate) fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::Acquire)
    }

    /// When to leave the write lock to others.
    pub(crate) fn contention(&self) -> &Contention {
        &self.contention
    }

    /// The writing connection, if it is free or becomes so within microseconds.
    pub(crate) fn try_writer(&self) -> Result<Borrowed<'_>, Unavailable> {
        try_borrow(&self.writer)
    }

    /// The writing connection, waited for. It is held for microseconds, or for a checkpoint.
    pub(crate) fn writer(&self) -> Result<Borrowed<'_>, Unavailable> {
        borrowed(lock(&self.writer))
    }

    /// A connection to read with: the reading one, or the writing one while a checkpoint keeps the other.
    pub(crate) fn try_reader(&self) -> Result<Borrowed<'_>, Unavailable> {
        match try_borrow(&self.reader) {
            Err(Unavailable::Taken) => try_borrow(&self.writer),
            reader => reader,
        }
    }

    /// What another module keeps for this database for as long as the pair is open, in all threads.
    pub(crate) fn attachment<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Result<Arc<T>> {
        let attachment = self.attachment.get_or_init(|| Arc::new(make()));
        Arc::clone(attachment)
            .downcast()
            .map_err(|_| Error::Defect("two kinds of state were attached to one database".to_owned()))
    }

    /// What another module keeps for this database, if it does.
    pub(crate) fn attached<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.attachment.get()?).downcast().ok()
    }

    /// To be called after each commit, with the writer still held.
    pub(crate) fn after_commit(&self, writer: &Connection) {
        match self.log.due() {
            Due::Nothing => {}
            Due::Background => self.schedule_checkpoint(Duration::ZERO),
            // The commit has succeeded; that the log is long is no reason to fail it.
            Due::InTheCall => drop(self.noting_failed_sync(checkpoint(writer))),
        }
    }

    /// To be called before a change, with the writer held.
    ///
    /// A sync that fails is reported once, and the pages of the log that did not reach the disk count as written from
    /// then on. A commit behind them would be lost with them, so all of the log first goes into the database, which
    /// is synced, and starts anew.
    pub(crate) fn remove_doubt(&self, writer: &Connection, patience: Patience) -> Result<(), Failure> {
        if !self.is_in_doubt.load(Ordering::Acquire) {
            return Ok(());
        }
        if patience == Patience::Now {
            return Err(Failure::Busy);
        }
        empty_log(writer)?;
        self.is_in_doubt.store(false, Ordering::Release);
        Ok(())
    }

    /// Passes on the answer of an attempt to write; after a failed sync the log is in doubt.
    pub(crate) fn noting_failed_sync<T>(&self, answer: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(Failure::NotSynced(_)) = answer {
            self.is_in_doubt.store(true, Ordering::Release);
        }
        answer
    }

    /// Runs `work` with both connections, waiting for their present users.
    pub(super) fn with_connections<T>(
        &self,
        work: impl FnOnce(&Connection, &Connection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (writer, reader) = (lock(&self.writer), lock(&self.reader));
        match (writer.as_ref(), reader.as_ref()) {
            (Some(writer), Some(reader)) => work(writer, reader),
            _ => Err(Failure::Refused("the database was closed while it was opened".to_owned())),
        }
    }

    /// Takes down what closing and checkpoints need to know, once the database is in WAL mode.
    pub(super) fn note_layout(&self, writer: &Connection, reader: &Connection) -> Result<(), Failure> {
        let page_size: i64 = writer.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        self.log.set_page_size(u64::try_from(page_size).unwrap_or(4096));
        // A first read by each makes SQLite attach to the log.
        for connection in [writer, reader] {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        }
        if self.shared_memory.get().is_none()
            && let Ok(path) = self.path.canonicalize()
            && let Ok(Some(identity)) = FileId::of_path(&beside(&path, "-shm"))
        {
            let _ = self.shared_memory.set(identity);
        }
        Ok(())
    }

    /// Marks a parked pair as wanted again.
    pub(super) fn revive(&self) {
        self.in_use.store(true, Ordering::Release);
    }

    /// Closes the pair if that takes no lock away from anybody else in this process; else parks it. Says whether it
    /// closed. Waits for a call in progress.
    pub(super) fn close_or_park(&self) -> bool {
        let mut writer = lock(&self.writer);
        let mut reader = lock(&self.reader);
        self.in_use.store(false, Ordering::Release);
        let alone = descriptors::are_all_ours(self.identity, FILE_DESCRIPTORS)
            && self
                .shared_memory
                .get()
                .is_none_or(|file| descriptors::are_all_ours(*file, SHARED_MEMORY_DESCRIPTORS));
        if !alone {
            return false;
        }
        // Where another file took this one's place, SQLite leaves the log alone: it would be that file's.
        // In this order: the last one closed wants the file's lock for itself, to fold the log in and remove it,
        // and would be kept from it by the shared lock on the other's descriptor.
        *reader = None;
        *writer = None;
        true
    }

    /// Whether the path still leads to the file that is open here.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(FileId::of_path(&self.path), Ok(Some(identity)) if identity == self.identity)
    }

    fn schedule_checkpoint(&self, delay: Duration) {
        let chore: Weak<dyn Chore> = Weak::<Self>::clone(&self.myself);
        housekeeping::schedule(chore, delay);
    }
}

impl Chore for Database {
    /// A checkpoint.
    fn run(&self) {
        match try_borrow(&self.reader) {
            // A failure leaves the log as it is: the next checkpoint meets the same pages again.
            Ok(reader) if self.is_in_use() => drop(self.noting_failed_sync(checkpoint(&reader))),
            Ok(_) | Err(Unavailable::Closed) => {}
            Err(Unavailable::Taken) => self.schedule_checkpoint(Duration::from_millis(1)),
        }
    }
}

fn connect(path: &Path, create: bool) -> Result<Connection> {
    // No mutexes inside SQLite: every connection is behind one of ours.
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connect = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.set_prepared_statement_cache_capacity(32);
        // Else SQLite may compile a prepared statement anew whenever its parameters change.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    };
    connect().map_err(|error: rusqlite::Error| {
        why_not_opened(path, &error).unwrap_or_else(|| Failure::from(error).at(path))
    })
}

/// The system's reason, where a look at the folder tells it: SQLite has the same words for missing rights and for too
/// many open files. The database itself is not opened for that, since closing it again would drop others' locks.
fn why_not_opened(path: &Path, error: &rusqlite::Error) -> Option<Error> {
    if error.sqlite_error_code() != Some(ErrorCode::CannotOpen) {
        return None;
    }
    let source = std::fs::read_dir(path.parent()?).err()?;
    Some(Error::Io { action: "open the database", path: path.to_owned(), source })
}

fn identify(path: &Path) -> Result<FileId> {
    match FileId::of_path(path) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => {
            Err(Failure::Refused("the file was removed while it was opened; try again".to_owned()).at(path))
        }
        Err(source) => Err(Error::Io { action: "look at", path: path.to_owned(), source }),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn lock(connection: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

fn borrowed(guard: MutexGuard<'_, Option<Connection>>) -> Result<Borrowed<'_>, Unavailable> {
    if guard.is_some() { Ok(Borrowed(guard)) } else { Err(Unavailable::Closed) }
}

fn try_borrow(connection: &Mutex<Option<Connection>>) -> Result<Borrowed<'_>, Unavailable> {
    for _ in 0..SPINS {
        match connection.try_lock() {
            Ok(guard) => return borrowed(guard),
            Err(TryLockError::Poisoned(poisoned)) => return borrowed(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
    Err(Unavailable::Taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(folder: &Path) -> Arc<Database> {
        super::super::vfs_shim::install();
        let database = Database::open(&folder.join("file.db"), true).unwrap();
        database
            .with_connections(|writer, reader| {
                writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (x)")?;
                database.note_layout(writer, reader)
            })
            .unwrap();
        database
    }

    #[test]
    fn a_read_takes_the_writer_while_the_reader_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path());
        let checkpointing = database.try_reader().unwrap();
        let reading = database.try_reader().unwrap();
        assert_eq!(database.try_reader().err(), Some(Unavailable::Taken));
        assert_eq!(database.try_writer().err(), Some(Unavailable::Taken));
        drop((checkpointing, reading));
        assert!(database.close_or_park());
        assert_eq!(database.try_reader().err(), Some(Unavailable::Closed));
        assert_eq!(database.writer().err(), Some(Unavailable::Closed));
    }

    #[test]
    fn a_long_log_is_checkpointed_in_the_background_and_a_parked_pair_s_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path());
        let size = || std::fs::metadata(folder.path().join("file.db")).unwrap().len();
        let write = || {
            let writer = database.writer().unwrap();
            writer.execute_batch("INSERT INTO t VALUES (zeroblob(6000000))").unwrap();
            database.after_commit(&writer);
        };
        let before = size();
        write();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while size() < 6_000_000 {
            assert!(std::time::Instant::now() < deadline, "no checkpoint came");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(before < 6_000_000);

        let other = std::fs::File::open(folder.path().join("file.db")).unwrap();
        write();
        assert!(!database.close_or_park());
        let parked = size();
        database.run();
        assert_eq!(size(), parked);
        drop(other);
    }

    #[test]
    fn a_log_past_its_limit_is_checkpointed_in_the_call() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path());
        // The background's connection is kept from it.
        let _reader = database.try_reader().unwrap();
        let writer = database.writer().unwrap();
        writer.execute_batch("INSERT INTO t VALUES (zeroblob(20000000))").unwrap();
        database.after_commit(&writer);
        assert!(std::fs::metadata(folder.path().join("file.db")).unwrap().len() > 20_000_000);
    }

    #[test]
    fn after_a_failed_sync_the_log_is_emptied_first() {
        let folder = tempfile::tempdir().unwrap();
        let database = opened(folder.path());
        let log = || std::fs::metadata(folder.path().join("file.db-wal")).unwrap().len();
        let writer = database.writer().unwrap();
        let patient = Patience::lasting(Duration::from_secs(1));
        assert!(database.remove_doubt(&writer, patient).is_ok() && log() > 0);
        let failure = rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC),
            None,
        );
        assert!(database.noting_failed_sync::<()>(Err(failure.into())).is_err());
        assert!(matches!(database.remove_doubt(&writer, Patience::Now), Err(Failure::Busy)));
        assert!(log() > 0);
        database.remove_doubt(&writer, patient).unwrap();
        assert_eq!(log(), 0);
        assert!(database.remove_doubt(&writer, Patience::Now).is_ok());
    }
}

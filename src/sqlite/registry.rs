//! Which databases this process has open.
//!
//! A database has one pair of connections in a process, whoever uses it and by whatever path. When its last user
//! goes, the pair is closed only if nobody else in the process has the file open: closing a descriptor would drop
//! the locks of the application's own copy of SQLite. Else the pair is parked here, without writing, for the next
//! user or the end of the process.

use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::database::Database;
use super::failure::Failure;
use super::preparation::{Preparation, prepare};
use super::vfs_shim;
use crate::error::{Error, IoContext, Result};
use crate::files::FileId;

/// What to do where there is no database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Make a new one.
    Create,
    /// Fail.
    Refuse,
}

struct Entry {
    database: Arc<Database>,
    users: usize,
}

static ENTRIES: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// Held while a pair is opened, which may take long; closing another database doesn't wait for that.
static OPENING: Mutex<()> = Mutex::new(());

/// A use of a database; the last one to be dropped closes or parks the pair.
pub(crate) struct DatabaseHandle(Arc<Database>);

impl Deref for DatabaseHandle {
    type Target = Arc<Database>;

    fn deref(&self) -> &Arc<Database> {
        &self.0
    }
}

impl Drop for DatabaseHandle {
    fn drop(&mut self) {
        let mut entries = entries();
        let Some(position) = entries.iter().position(|entry| Arc::ptr_eq(&entry.database, &self.0)) else {
            return;
        };
        let entry = &mut entries[position];
        entry.users -= 1;
        if entry.users == 0 && self.0.close_or_park() {
            entries.swap_remove(position);
        }
    }
}

/// Opens the database at `path`, and prepares it if it isn't.
///
/// Waits up to 5 s for other processes that prepare it too or are in the way; needs no write lock if all is in place.
pub(crate) fn open(path: &Path, missing: Missing, preparation: &dyn Preparation) -> Result<DatabaseHandle> {
    vfs_shim::install();
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    close_deleted();
    let handle = attach(path, missing)?;
    prepare(&handle, preparation)?;
    Ok(handle)
}

/// Opens the database at `path` to read it as it is: nothing is prepared.
pub(crate) fn look_into(path: &Path) -> Result<DatabaseHandle> {
    vfs_shim::install();
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    close_deleted();
    let handle = attach(path, Missing::Refuse)?;
    handle
        .with_connections(|writer, reader| handle.note_layout(writer, reader))
        .map_err(|failure| failure.at(path))?;
    Ok(handle)
}

fn attach(path: &Path, missing: Missing) -> Result<DatabaseHandle> {
    let identity = FileId::of_path(path).context("look at", path)?;
    match identity {
        Some(_) if path.is_dir() => {
            return Err(io::Error::from(io::ErrorKind::IsADirectory)).context("open the database", path);
        }
        Some(identity) => {
            let mut entries = entries();
            if let Some(entry) = entries.iter_mut().find(|entry| entry.database.identity() == identity) {
                entry.users += 1;
                entry.database.revive();
                return Ok(DatabaseHandle(Arc::clone(&entry.database)));
            }
        }
        None if missing == Missing::Refuse => return Err(removed(path)),
        None => {}
    }
    let database = Database::open(path, missing == Missing::Create)?;
    entries().push(Entry { database: Arc::clone(&database), users: 1 });
    Ok(DatabaseHandle(database))
}

/// The error of a use of a database whose file is gone.
pub(crate) fn removed(path: &Path) -> Error {
    Failure::Refused("the database was removed; create a new PhaseLeaseManager".to_owned()).at(path)
}

/// Closes parked pairs whose file is gone, so that a process that sees many workspaces doesn't run out of descriptors.
fn close_deleted() {
    entries()
        .retain(|entry| entry.users > 0 || entry.database.is_in_place() || !entry.database.close_or_park());
}

fn entries() -> MutexGuard<'static, Vec<Entry>> {
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

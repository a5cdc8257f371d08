//! One process at a time prepares a database.
//!
//! The switch to WAL and the creation of tables need the database to themselves, and SQLite answers "busy" to all
//! but one of those who try at once. So they take turns by a lock on a file beside the database, which stays there,
//! empty: whoever locked a file that is then removed would hold nothing.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::lock::os_lock;

/// The right to prepare a database; ends when dropped, or with the process.
#[derive(Debug)]
pub(super) struct StartLock(
    #[expect(dead_code, reason = "held for the lock, which ends when it is closed")] File,
);

impl StartLock {
    /// Takes the lock of the database at `database`, or `None` while somebody else has it.
    pub(super) fn try_take(database: &Path) -> Result<Option<Self>> {
        let path = lock_file(database);
        let file = os_lock::open(&path).context("open the start lock", &path)?;
        let is_ours = os_lock::try_lock(&file).context("lock", &path)?;
        Ok(is_ours.then_some(Self(file)))
    }
}

fn lock_file(database: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(database.file_name().unwrap_or_default());
    name.push(".driftlock");
    database.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orchestrator.db");
        let held = StartLock::try_take(&database).unwrap();
        assert!(held.is_some());
        assert!(StartLock::try_take(&database).unwrap().is_none());
        drop(held);
        assert!(StartLock::try_take(&database).unwrap().is_some());
        assert!(folder.path().join(".orchestrator.db.driftlock").exists());
    }
}

//! The lock between processes that a journal is written under, kept open between uses.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, IoContext, Result};
use crate::files::{FileId, Stamp};
use crate::lock::os_lock;
use crate::patience::Patience;

/// How long a journal's lock is waited for. It is held for well under a millisecond, so that only a process that was
/// stopped while it held the lock makes anybody wait this long.
pub const JOURNAL_PATIENCE: Duration = Duration::from_secs(10);

/// A lock file that stays open, so that locking is one system call and a look at the path.
#[derive(Debug)]
pub struct JournalLock {
    path: PathBuf,
    open: Option<(File, FileId)>,
}

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct JournalGuard<'a> {
    file: &'a File,
}

impl JournalLock {
    /// The lock on the file at `path`. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Takes the lock; [`Error::JournalLocked`] if patience runs out first.
    pub fn acquire(&mut self, patience: Patience) -> Result<JournalGuard<'_>> {
        let Self { path, open } = self;
        let path: &Path = path;
        let acquired = patience.wait_for(|| try_acquire(path, open))?;
        match (acquired, open) {
            (Some(()), Some((file, _))) => Ok(JournalGuard { file }),
            _ => Err(Error::JournalLocked { path: path.to_owned(), waited: JOURNAL_PATIENCE }),
        }
    }
}

/// Locks the file that is at `path` now, whatever was open before.
fn try_acquire(path: &Path, open: &mut Option<(File, FileId)>) -> Result<Option<()>> {
    loop {
        if open.is_none() {
            let file = os_lock::open(path).context("open the lock file", path)?;
            let id = Stamp::of_file(&file).context("look at", path)?.id;
            *open = Some((file, id));
        }
        let Some((file, id)) = open else { return Ok(None) };
        if !os_lock::try_lock(file).context("lock", path)? {
            // If the file was replaced, its lock is somebody's who will notice that too.
            return Ok(None);
        }
        let at_path = FileId::of_path(path).context("look at", path);
        if matches!(at_path, Ok(found) if found == Some(*id)) {
            return Ok(Some(()));
        }
        // Closing it ends the lock, which others would else wait for.
        *open = None;
        at_path?;
    }
}

impl JournalGuard<'_> {
    /// The locked file, which may be used to leave a note for the next holder.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file
    }
}

impl Drop for JournalGuard<'_> {
    fn drop(&mut self) {
        // Unlocking an open file can't fail; were it to, the lock would end with the process.
        let _ = os_lock::unlock(self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_locks_on_one_file_exclude_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.lock");
        let (mut one, mut two) = (JournalLock::new(path.clone()), JournalLock::new(path));
        let held = one.acquire(Patience::Now).unwrap();
        assert_eq!(two.acquire(Patience::Now).unwrap_err().code(), "JOURNAL_LOCKED");
        drop(held);
        two.acquire(Patience::Now).unwrap();
    }

    #[test]
    fn a_lock_file_that_was_replaced_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.lock");
        let (mut one, mut two) = (JournalLock::new(path.clone()), JournalLock::new(path.clone()));
        drop(one.acquire(Patience::Now).unwrap());
        std::fs::remove_file(&path).unwrap();
        let _held = two.acquire(Patience::Now).unwrap();
        assert!(one.acquire(Patience::Now).is_err());
    }
}

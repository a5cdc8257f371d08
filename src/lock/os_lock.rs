//! One operating-system lock on one file.
//!
//! The lock is `flock(2)` (`LockFileEx` on Windows) on an open file: it ends when the file is closed, so also when
//! the holder dies, and never while the holder lives. What the file contains decides nothing: a file left over by
//! somebody who kept no such lock keeps nobody out.
//!
//! It does not exclude between machines on network file systems (see `flock(2)`).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fs4::FileExt;
use fs4::TryLockError;

use crate::error::{Error, IoContext, Result};
use crate::files::{FileId, Stamp, open_with_folders, private_options};

/// How often a lock file may vanish between opening and locking before that is reported as an error.
const REOPEN_LIMIT: u32 = 100;

/// A held lock; dropping it releases it.
#[derive(Debug)]
pub struct OsLock {
    file: File,
    path: PathBuf,
}

impl OsLock {
    /// Tries to lock the file at `path`, which is made if absent, as are its folders; `None` if somebody else holds
    /// it. Does not wait.
    ///
    /// A symbolic link at `path` is refused rather than followed into a file of somebody else's choice.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>> {
        for _ in 0..REOPEN_LIMIT {
            let file = open(path).context("open the lock file", path)?;
            if !try_lock(&file).context("lock", path)? {
                return Ok(None);
            }
            // Whoever locks a file that was removed meanwhile holds nothing that others can see.
            if is_at(&file, path).context("look at", path)? {
                return Ok(Some(Self { file, path: path.to_owned() }));
            }
        }
        Err(Error::Io {
            action: "keep the lock file",
            path: path.to_owned(),
            source: io::Error::other("it is removed again and again by another program"),
        })
    }

    /// The locked file, to read and write.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The path that was locked.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the locked file is still the one at its path: if it was removed or replaced, others lock another.
    pub fn is_current(&self) -> Result<bool> {
        is_at(&self.file, &self.path).context("look at", &self.path)
    }
}

/// Locks an open file without waiting; false if somebody else holds it.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // Named in full: std has a method of the same name with another error type.
    match FileExt::try_lock(file) {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Unlocks an open file that stays open.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    FileExt::unlock(file)
}

/// Opens a lock file for reading and writing, with its folders, without changing what it holds.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = private_options();
    options.read(true).write(true).create(true).truncate(false);
    open_with_folders(&options, path)
}

pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    Ok(FileId::of_path(path)? == Some(Stamp::of_file(file)?.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_keeps_others_out_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/work.lock");
        let held = OsLock::try_acquire(&path).unwrap().unwrap();
        assert!(OsLock::try_acquire(&path).unwrap().is_none());
        drop(held);
        assert!(OsLock::try_acquire(&path).unwrap().is_some());
    }

    #[test]
    fn a_lock_on_a_removed_file_is_not_current() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.lock");
        let held = OsLock::try_acquire(&path).unwrap().unwrap();
        assert!(held.is_current().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(!held.is_current().unwrap());
        assert!(OsLock::try_acquire(&path).unwrap().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("precious");
        let path = folder.path().join("work.lock");
        std::fs::write(&target, "mine").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(OsLock::try_acquire(&path).is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "mine");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_lock_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.lock");
        let held = OsLock::try_acquire(&path).unwrap().unwrap();
        assert_eq!(held.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

//! What an acknowledged change survives, and files that can be made to survive it.
//!
//! A sync that fails is reported once: the system then takes what it could not write for written, and the next sync
//! succeeds without it. So a file whose sync has failed is *in doubt*. It is opened again, and what was written to
//! it since the last sync that worked is written once more before anything behind it is acknowledged.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{IoContext, Result};
use crate::files;
use crate::patience::Patience;

/// What an acknowledged change survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of any process at any moment. A power cut may take the changes that the system had not written back,
    /// never a part of one in a way that isn't noticed.
    #[default]
    Process,
    /// A power cut as well: the disk is synced before the change is acknowledged.
    PowerCut,
}

impl Durability {
    /// Whether a change has to wait for the disk, which a caller without patience leaves to one that has some.
    #[must_use]
    pub fn would_block(self, patience: Patience) -> bool {
        self == Self::PowerCut && patience == Patience::Now
    }
}

/// An open file, and what is known about how much of it is on the disk.
#[derive(Debug)]
pub struct DurableFile {
    file: File,
    /// Held during a sync: of two at the same time, the system would tell only one that they failed.
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    synced_to: u64,
    /// Whether the folders have been synced since the file was found there.
    entry_is_synced: bool,
    is_in_doubt: bool,
}

/// A sync that is still to be made. Needs no lock: whatever others write meanwhile is synced with it.
#[derive(Debug)]
#[must_use = "nothing is synced before it is run"]
pub struct Sync {
    file: Arc<DurableFile>,
    path: PathBuf,
    /// The size of the file when the lock was held.
    size: u64,
}

impl DurableFile {
    /// A file of which the first `synced_to` bytes are not this process's to sync.
    #[must_use]
    pub fn new(file: File, synced_to: u64) -> Arc<Self> {
        let known = Known { synced_to, entry_is_synced: false, is_in_doubt: false };
        Arc::new(Self { file, known: Mutex::new(known) })
    }

    /// Whether a sync of it has failed, so that no later one says anything about what was written before.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.known().is_in_doubt
    }

    /// Up to where the file was synced when last one worked.
    #[must_use]
    pub fn synced_to(&self) -> u64 {
        self.known().synced_to
    }

    /// The sync of everything that the file, which is at `path`, holds up to `size`.
    pub fn sync(self: &Arc<Self>, path: &Path, size: u64) -> Sync {
        Sync { file: Arc::clone(self), path: path.to_owned(), size }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for DurableFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Sync {
    /// Makes it so. If it fails, the file is in doubt.
    pub fn run(self) -> Result<()> {
        let Self { file, path, size } = self;
        let mut known = file.known();
        if known.is_in_doubt {
            return Err(io::Error::other("another sync of it has just failed")).context("sync", &path);
        }
        known.is_in_doubt = true;
        file.sync_data().context("sync", &path)?;
        if !known.entry_is_synced {
            files::sync_folders(&path).context("sync the folder of", &path)?;
        }
        *known = Known { synced_to: size.max(known.synced_to), entry_is_synced: true, is_in_doubt: false };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_leaves_the_file_in_doubt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let file = DurableFile::new(File::create(&path).unwrap(), 0);
        file.sync(&path, 7).run().unwrap();
        assert_eq!((file.synced_to(), file.is_in_doubt()), (7, false));
        // The folder is synced once only.
        file.sync(Path::new("/nowhere/file"), 9).run().unwrap();
        assert_eq!(file.synced_to(), 9);

        let other = DurableFile::new(File::create(&path).unwrap(), 0);
        let error = other.sync(Path::new("/nowhere/file"), 7).run().unwrap_err();
        assert!(error.to_string().contains("cannot sync the folder of /nowhere/file"), "{error}");
        assert_eq!((other.synced_to(), other.is_in_doubt()), (0, true));
        assert!(other.sync(&path, 7).run().is_err());
    }
}

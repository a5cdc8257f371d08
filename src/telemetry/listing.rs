//! The files of a journal: the one at its path, and those that were rotated away by renaming.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};
use crate::files::{FileId, Stamp};

/// A file in a journal's folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// What is in a journal's folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// What is at the journal's path.
    pub(super) current: Option<Found>,
    /// All other files.
    others: Vec<Found>,
}

/// Lists the folder of the journal at `path`; empty if there is none.
pub(super) fn list(path: &Path) -> Result<Listing> {
    let folder = path.parent().unwrap_or(path);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(Listing::default()),
        entries => entries.context("list", folder)?,
    };
    let mut listing = Listing::default();
    for entry in entries {
        let entry = entry.context("list", folder)?;
        let found = entry.path();
        let is_current = found == path;
        if !is_current && !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        // It may have gone since.
        let Some(stamp) = Stamp::of_path(&found).context("look at", &found)? else { continue };
        let found = Found { path: found, stamp };
        if is_current {
            listing.current = Some(found);
        } else {
            listing.others.push(found);
        }
    }
    Ok(listing)
}

impl Listing {
    /// The file with this identity, unless it is the current one.
    pub(super) fn other(&self, id: FileId) -> Option<&Found> {
        self.others.iter().find(|found| found.stamp.id == id)
    }

    /// The files whose names say that they may be this journal's, rotated away: `counters.jsonl.1`,
    /// `counters-20260101.jsonl`.
    pub(super) fn rotated<'a>(&'a self, path: &Path) -> impl Iterator<Item = &'a Found> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let current = self.current.as_ref().map(|found| found.stamp.id);
        self.others.iter().filter(move |found| {
            let name = found.path.file_name().unwrap_or_default().to_string_lossy();
            let is_ours = name.starts_with(&stem) && !name.contains(".damaged-");
            // A file that was renamed while the folder was listed may be seen under both names.
            is_ours && Some(found.stamp.id) != current
        })
    }
}

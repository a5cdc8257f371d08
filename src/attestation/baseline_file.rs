//! The baselines file: one JSON object, read and written without parsing all of it.
//!
//! In memory is only where each entry is; an entry's value is read from the file when it is needed, so that an edit
//! of it is seen at once.
//!
//! New entries are written in place, by one write into blank padding that is kept before the closing brace. The size
//! doesn't change, so a full disk can't tear it, and the cost doesn't grow with the file. A reader that doesn't take
//! the lock may in rare cases see half of the write and has to read again. When the padding is used up, and when an
//! entry changes, a new file is renamed over the old one. (Renaming for each entry would spare readers that, but
//! costs 0.2 to 4 ms on ext4, which writes back a file that is renamed over another.)
//!
//! What is to survive a power cut is synced before the rename, and by [`BaselineFile::sync`] after it.
//!
//! All methods need the lock of the workspace's attestations to be held, except where they say otherwise.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::entry_index::EntryIndex;
use super::baseline::Baseline;
use super::watermark::Watermark;
use crate::durability::{Durability, DurableFile, Sync};
use crate::error::{Error, IoContext, Result};
use crate::files::{self, Stamp, open_with_folders, read_exact_at, write_all_at};
use crate::journal::tail::READ_AT_ONCE;
use crate::json;
use crate::patience::Patience;
use crate::text::Text;

mod entry_index;

/// The least padding in bytes that a file with entries gets when it is written anew.
const LEAST_PADDING: usize = 16 << 10;
/// The padding of a large file, as a part of its size: so the cost of writing it anew stays constant for each entry.
const PADDING_PART: usize = 4;
/// How much is read at first to get at one entry.
const USUAL_ENTRY: u64 = 512;

/// The baselines file of a workspace.
#[derive(Debug)]
pub struct BaselineFile {
    path: PathBuf,
    loaded: Option<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    file: Arc<DurableFile>,
    stamp: Stamp,
    epoch: u64,
    entries_end: u64,
    closing_brace: u64,
    entries: EntryIndex,
}

/// What a look at the file found.
#[derive(Debug)]
pub enum State {
    /// The file is whole, and known.
    Whole,
    /// There is no file.
    Missing,
    /// The file is damaged; these are its bytes.
    Damaged(Vec<u8>),
}

impl BaselineFile {
    /// The file at `path`. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, loaded: None }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in what others have done to the file since the last call. A caller who can't wait gets
    /// [`Error::JournalLocked`] if there is much to read.
    pub fn refresh(&mut self, lock_file: &File, patience: Patience) -> Result<State> {
        let Some(stamp) = self.stamp()? else {
            self.loaded = None;
            return Ok(State::Missing);
        };
        if self.loaded.as_ref().is_some_and(|loaded| loaded.stamp == stamp) {
            return Ok(State::Whole);
        }
        let is_much = |bytes: u64| patience == Patience::Now && bytes > READ_AT_ONCE;
        let would_block = || Error::JournalLocked { path: self.path.clone(), waited: Duration::ZERO };
        let mark = Watermark::read(lock_file).filter(|mark| mark.stamp == stamp);
        if let (Some(loaded), Some(mark)) = (&mut self.loaded, mark)
            && loaded.is_followed_by(&mark)
        {
            if is_much(mark.entries_end - loaded.entries_end) {
                return Err(would_block());
            }
            if loaded.follow(&self.path, &mark).context("read", &self.path)? {
                return Ok(State::Whole);
            }
        }
        if is_much(stamp.size) { Err(would_block()) } else { self.load(mark.map(|mark| mark.epoch)) }
    }

    /// The baseline with this key, as it is in the file.
    pub fn get(&mut self, key: &Text) -> Result<Option<Baseline>> {
        let Some(loaded) = &self.loaded else { return self.check_missing().map(|()| None) };
        if let Some(found) = loaded.get(key).context("read", &self.path)? {
            return Ok(Baseline::from_json(&found));
        }
        // The file was changed in place so quickly that its times didn't change.
        self.load(None)?;
        let found = match &self.loaded {
            Some(loaded) => loaded.get(key).context("read", &self.path)?,
            None => None,
        };
        match found {
            Some(found) => Ok(Baseline::from_json(&found)),
            None => Err(changed_meanwhile()).context("read", &self.path),
        }
    }

    /// Adds baselines. The file is made if there is none.
    pub fn add(
        &mut self,
        lock_file: &File,
        baselines: &[(Text, Baseline)],
        durability: Durability,
    ) -> Result<()> {
        let Some(loaded) = &mut self.loaded else {
            self.check_missing()?;
            let baselines = baselines.iter().map(|(key, baseline)| (key, baseline));
            return self.write_all(lock_file, baselines, durability);
        };
        if loaded.must_be_replaced_for(baselines) {
            return self.replace(lock_file, baselines, durability);
        }
        let (mut text, starts) = loaded.further_entries(baselines);
        let start = loaded.entries_end;
        let end = start + text.len() as u64;
        if loaded.has_room_for(&text) {
            let written = write_all_at(&loaded.file, &text, start)
                .and_then(|()| Stamp::of_file(&loaded.file))
                .context("write into", &self.path);
            match written {
                Ok(stamp) => loaded.stamp = stamp,
                Err(error) => {
                    // Whatever part was written must not become half of an entry. If that fails too, the next use
                    // finds the damage and mends it.
                    text.fill(b' ');
                    let _ = write_all_at(&loaded.file, &text, start);
                    self.loaded = None;
                    return Err(error);
                }
            }
        } else {
            let mut content = vec![0; usize::try_from(start).unwrap_or(usize::MAX)];
            read_exact_at(&loaded.file, &mut content, 0).context("read", &self.path)?;
            content.extend_from_slice(&text);
            let (file, stamp, closing_brace) = replace_file(&self.path, content, durability)?;
            loaded.file = DurableFile::new(file, 0);
            loaded.stamp = stamp;
            loaded.closing_brace = closing_brace;
        }
        loaded.entries_end = end;
        for ((key, _), entry_start) in baselines.iter().zip(starts) {
            loaded.entries.add(key.as_wtf8(), start + entry_start as u64);
        }
        loaded.mark().write(lock_file);
        Ok(())
    }

    /// Whether to add these baselines is to write more anew than a caller who can't wait may write.
    #[must_use]
    pub fn is_much_to_write_for(&self, added: &[(Text, Baseline)]) -> bool {
        self.is_much_to_replace()
            && self.loaded.as_ref().is_some_and(|loaded| {
                loaded.must_be_replaced_for(added) || !loaded.has_room_for(&loaded.further_entries(added).0)
            })
    }

    /// Whether to write the file anew is more than a caller who can't wait may write.
    #[must_use]
    pub fn is_much_to_replace(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.stamp.size > READ_AT_ONCE)
    }

    /// Sets baselines whether or not there are some with the same keys.
    pub fn replace(
        &mut self,
        lock_file: &File,
        baselines: &[(Text, Baseline)],
        durability: Durability,
    ) -> Result<()> {
        let mut content = Vec::new();
        if self.loaded.is_some() {
            content = std::fs::read(&self.path).context("read", &self.path)?;
        } else {
            self.check_missing()?;
        }
        let mut kept: Vec<Range<usize>> = Vec::new();
        let scanned = json::object(&content, |entry| {
            let key = json::text(&content[entry.key.clone()]);
            if !baselines.iter().any(|(new, _)| Some(new) == key.as_ref()) {
                kept.push(entry.key.start..entry.value.end);
            }
        });
        if scanned.is_err() && !content.is_empty() {
            return Err(changed_meanwhile()).context("replace", &self.path);
        }
        let mut new = Vec::with_capacity(content.len() + 256 * baselines.len());
        new.push(b'{');
        for entry in kept {
            separate(&mut new);
            new.extend_from_slice(&content[entry]);
        }
        for (key, baseline) in baselines {
            separate(&mut new);
            baseline.write_entry(key, &mut new);
        }
        self.install(lock_file, new, durability)
    }

    /// Makes the file anew with just these baselines.
    pub fn write_all<'a>(
        &mut self,
        lock_file: &File,
        baselines: impl Iterator<Item = (&'a Text, &'a Baseline)>,
        durability: Durability,
    ) -> Result<()> {
        let mut content = vec![b'{'];
        for (key, baseline) in baselines {
            separate(&mut content);
            baseline.write_entry(key, &mut content);
        }
        self.install(lock_file, content, durability)
    }

    /// The sync of the file as it is now, to be run when the lock has been released; `None` if there is no file.
    #[must_use]
    pub fn sync(&self) -> Option<Sync> {
        self.loaded.as_ref().map(|loaded| loaded.file.sync(&self.path, loaded.stamp.size))
    }

    /// Puts a new file in place, of which `content` is everything up to the last entry.
    fn install(&mut self, lock_file: &File, content: Vec<u8>, durability: Durability) -> Result<()> {
        replace_file(&self.path, content, durability)?;
        self.load(None)?;
        if let Some(loaded) = &self.loaded {
            loaded.mark().write(lock_file);
        }
        Ok(())
    }

    /// Reads all of the file. `epoch` is the known name for the present order of its entries.
    fn load(&mut self, epoch: Option<u64>) -> Result<State> {
        self.loaded = None;
        let file = open(&self.path).context("open", &self.path)?;
        let stamp = Stamp::of_file(&file).context("look at", &self.path)?;
        let mut content = vec![0; usize::try_from(stamp.size).unwrap_or(usize::MAX)];
        read_exact_at(&file, &mut content, 0).context("read", &self.path)?;
        let mut entries = EntryIndex::default();
        match entries.add_all(&content, 0, |bytes, found| json::object(bytes, found)) {
            Ok(extent) => {
                self.loaded = Some(Loaded {
                    file: DurableFile::new(file, 0),
                    stamp,
                    epoch: epoch.unwrap_or_else(new_epoch),
                    entries_end: extent.entries_end as u64,
                    closing_brace: extent.closing_brace as u64,
                    entries,
                });
                Ok(State::Whole)
            }
            Err(_) => Ok(State::Damaged(content)),
        }
    }

    /// That nothing is known of the file must mean that there is none: one that couldn't be read has baselines, which
    /// must neither count as absent nor be written over.
    fn check_missing(&self) -> Result<()> {
        match self.stamp()? {
            None => Ok(()),
            Some(_) => Err(io::Error::other("it could not be read just now")).context("read", &self.path),
        }
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        Stamp::of_path(&self.path).context("look at", &self.path)
    }
}

impl Loaded {
    /// Whether the file of the mark is this one with entries added under the lock.
    fn is_followed_by(&self, mark: &Watermark) -> bool {
        mark.epoch == self.epoch && mark.entries_end >= self.entries_end
    }

    /// Takes in the entries that were added; false if they can't be read as such.
    fn follow(&mut self, path: &Path, mark: &Watermark) -> io::Result<bool> {
        if mark.stamp.id != self.stamp.id {
            self.file = DurableFile::new(open(path)?, 0);
        }
        let length = usize::try_from(mark.entries_end - self.entries_end).unwrap_or(usize::MAX);
        let mut added = vec![0; length];
        read_exact_at(&self.file, &mut added, self.entries_end)?;
        let start = self.entries_end;
        if self.entries.add_all(&added, start, |bytes, found| json::further_entries(bytes, found)).is_err() {
            return Ok(false);
        }
        self.stamp = mark.stamp;
        self.entries_end = mark.entries_end;
        self.closing_brace = mark.closing_brace;
        Ok(true)
    }

    /// Whether the file can't just be added to. A later entry with the same key is the one that counts, for `JSON.parse`
    /// too, but leaves litter behind. And what a failed sync has left on the disk nobody knows.
    fn must_be_replaced_for(&self, added: &[(Text, Baseline)]) -> bool {
        self.file.is_in_doubt() || added.iter().any(|(key, _)| self.entries.might_contain(key))
    }

    /// The text of entries that follow those of the file, and where in it each starts.
    fn further_entries(&self, added: &[(Text, Baseline)]) -> (Vec<u8>, Vec<usize>) {
        let mut text = Vec::with_capacity(256 * added.len());
        let mut starts = Vec::with_capacity(added.len());
        for (position, (key, baseline)) in added.iter().enumerate() {
            text.extend_from_slice(if position > 0 || !self.entries.is_empty() { b",\n" } else { b"\n" });
            starts.push(text.len());
            baseline.write_entry(key, &mut text);
        }
        (text, starts)
    }

    fn has_room_for(&self, text: &[u8]) -> bool {
        self.entries_end + text.len() as u64 <= self.closing_brace
    }

    /// The value with this key, empty if there is none; `None` if the file is no longer what it was.
    fn get(&self, key: &Text) -> io::Result<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for start in self.entries.places(key) {
            match self.entry_at(start)? {
                // Of two entries with one key the later counts, as for `JSON.parse`.
                Some((entry_key, value)) if entry_key == *key => found = value,
                Some(_) | None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The key and value of the entry that starts at `start`; `None` if none does.
    fn entry_at(&self, start: u64) -> io::Result<Option<(Text, Vec<u8>)>> {
        let mut size = USUAL_ENTRY;
        loop {
            let available = size.min(self.stamp.size.saturating_sub(start));
            let mut bytes = vec![0; usize::try_from(available).unwrap_or(usize::MAX)];
            if read_exact_at(&self.file, &mut bytes, start).is_err() {
                return Ok(None);
            }
            match json::entry_at(&bytes, 0) {
                // A value that ends with the bytes read may go on after them.
                Ok(entry) if entry.value.end < bytes.len() => {
                    let key = json::text(&bytes[entry.key]);
                    return Ok(key.map(|key| (key, bytes[entry.value].to_vec())));
                }
                _ if available == size => size *= 16,
                _ => return Ok(None),
            }
        }
    }

    fn mark(&self) -> Watermark {
        Watermark {
            epoch: self.epoch,
            stamp: self.stamp,
            entries_end: self.entries_end,
            closing_brace: self.closing_brace,
        }
    }
}

fn changed_meanwhile() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it was changed meanwhile by somebody who doesn't take the lock",
    )
}

/// A name for an order of entries that no other process uses.
fn new_epoch() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0
}

fn separate(content: &mut Vec<u8>) {
    content.extend_from_slice(if content.len() > 1 { b",\n" } else { b"\n" });
}

fn open(path: &Path) -> io::Result<File> {
    files::options().read(true).write(true).open(path)
}

/// Renames a new file over the one at `path`: `content` is everything up to the last entry. Returns the new file, its
/// stamp and the offset of its closing brace.
fn replace_file(path: &Path, mut content: Vec<u8>, durability: Durability) -> Result<(File, Stamp, u64)> {
    // An empty object is what others make of it, too; a file with entries will get more.
    if content != b"{" {
        let padding = (content.len() / PADDING_PART).max(LEAST_PADDING);
        content.push(b'\n');
        content.resize(content.len() + padding, b' ');
        content.push(b'\n');
    }
    let closing_brace = content.len() as u64;
    content.push(b'}');

    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // One that a crash left behind is of no use; a link in its place is not to be followed.
    let mut options = files::options();
    options.read(true).write(true).create(true).truncate(true);
    let mut file = open_with_folders(&options, &temporary).context("create", &temporary)?;
    let write = |file: &mut File| {
        if let Ok(old) = std::fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.write_all(&content)
    };
    let written = write(&mut file)
        .context("write", &temporary)
        .and_then(|()| match durability {
            // Else the name could survive a power cut and what it names not.
            Durability::PowerCut => file.sync_all().context("sync", &temporary),
            Durability::Process => Ok(()),
        })
        .and_then(|()| std::fs::rename(&temporary, path).context("replace", path));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    let stamp = Stamp::of_file(&file).context("look at", path)?;
    Ok((file, stamp, closing_brace))
}

#[cfg(test)]
mod tests;

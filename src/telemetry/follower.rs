//! Reading what is new in a journal, whatever was done to its files since.

use std::cmp::Reverse;
use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::lines::count;
use super::listing::{Found, Listing, list};
use super::series::Totals;
use super::{Source, Start};
use crate::digest::hex_digest;
use crate::error::{Error, IoContext, Result};
use crate::files::{self, FileId, Stamp, read_exact_at};
use crate::journal::reader::{for_each_line, line_start};
use crate::log;

/// How much of a file's beginning tells it from another one that has got its inode.
const HEAD: u64 = 256;

/// How often a rotated file may be missing before it is forgotten: a folder that is listed while files in it are renamed
/// may not show them.
const MISSING_LIMIT: u32 = 10;

/// A journal's files and how far they were read. What is kept between two runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// The file at the journal's path.
    current: Option<Known>,
    /// The files beside it. A process that had one open when it was rotated away may still append to it.
    rotated: Vec<Known>,
    /// When the current file was last changed, as far as it was read: what is older was rotated before.
    modified_ns: i64,
    /// Whether the journal was ever looked for.
    is_started: bool,
    /// How often a file was found shorter than it had been read, or with another beginning.
    truncations: u64,
}

/// A file and how far it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    device: u64,
    inode: u64,
    offset: u64,
    head_length: u64,
    head_hash: String,
    /// Whether its lines don't count: it is a copy, or was rotated away before the first start.
    is_ignored: bool,
    missing: u32,
    /// The file as it was when it was last read, in this run.
    #[serde(skip)]
    stamp: Option<Stamp>,
}

impl Position {
    /// Counts what is new in the journal at `path`. Gives the number of bytes of the current file that were not read:
    /// half a line, mostly.
    ///
    /// If it fails, what could be read was counted, and the rest will be next time.
    pub fn read_on(&mut self, source: Source, path: &Path, start: Start, totals: &mut Totals) -> Result<u64> {
        let listing = list(path)?;
        let known_before: Vec<Known> = self.current.iter().chain(&self.rotated).cloned().collect();
        let was_rotated = self.is_started && self.notice_rotation(&listing);
        let mut failed = self.read_rotated(source, &listing, totals);
        for found in listing.rotated(path) {
            if self.rotated.iter().any(|known| known.id() == found.stamp.id) {
                continue;
            }
            // Whole files may have come and gone since the last look.
            let is_new = was_rotated
                && found.stamp.modified_ns >= self.modified_ns
                && is_original(found, &listing, path, &known_before);
            let mut known = Known::new(found.stamp.id);
            known.is_ignored = !is_new;
            if is_new {
                failed = known.read_on(source, &found.path, totals).err().or(failed);
            } else {
                // What doesn't count needs not be readable.
                let _ = known.skip(&found.path);
            }
            self.rotated.push(known);
        }
        let unread = self.read_current(source, path, &listing, start, totals)?;
        failed.map_or(Ok(unread), Err)
    }

    fn read_current(
        &mut self,
        source: Source,
        path: &Path,
        listing: &Listing,
        start: Start,
        totals: &mut Totals,
    ) -> Result<u64> {
        let Some(found) = &listing.current else {
            self.is_started = true;
            return Ok(0);
        };
        if self.current.is_none() {
            let mut known = Known::new(found.stamp.id);
            if !self.is_started && start == Start::Now {
                known.skip(path)?;
            }
            self.current = Some(known);
        }
        self.is_started = true;
        let Some(known) = &mut self.current else { return Ok(0) };
        if !known.read_on(source, path, totals)? {
            log::warning(
                "A journal was cut or overwritten; what was not read yet is lost, and it is read from its beginning. \
                 Rotate it by renaming",
                &[("file", &path.to_string_lossy())],
            );
            self.truncations += 1;
            *known = Known::new(known.id());
            known.read_on(source, path, totals)?;
        }
        self.modified_ns = known.stamp.map_or(self.modified_ns, |stamp| stamp.modified_ns);
        Ok(known.stamp.map_or(0, |stamp| stamp.size.saturating_sub(known.offset)))
    }

    /// How often a file was found shorter than it had been read, or with another beginning.
    #[must_use]
    pub fn truncations(&self) -> u64 {
        self.truncations
    }

    /// Sees whether another file is at the path than before.
    fn notice_rotation(&mut self, listing: &Listing) -> bool {
        let at_path = listing.current.as_ref().map(|found| found.stamp.id);
        let known = self.current.as_ref().map(Known::id);
        if known.is_some() && known == at_path {
            return false;
        }
        self.rotated.extend(self.current.take());
        // Somebody may have undone a rotation.
        let back = self.rotated.iter().position(|known| Some(known.id()) == at_path);
        if let Some(found) = &listing.current
            && let Some(back) = back
        {
            let known = self.rotated.remove(back);
            self.current = known.is_at(&found.path).unwrap_or(false).then_some(known);
            if let Some(current) = &mut self.current {
                current.is_ignored = false;
            }
        }
        true
    }

    /// Reads what was appended to files before or after they were rotated away. Gives what went wrong.
    fn read_rotated(&mut self, source: Source, listing: &Listing, totals: &mut Totals) -> Option<Error> {
        let mut failed = None;
        self.rotated.retain_mut(|known| {
            let Some(found) = listing.other(known.id()) else {
                known.missing += 1;
                return known.missing < MISSING_LIMIT;
            };
            known.missing = 0;
            match known.read_on(source, &found.path, totals) {
                // One that is not as it was is another file that has got the inode.
                Ok(is_it) => is_it,
                Err(error) => {
                    failed = Some(error).filter(|_| !known.is_ignored).or(failed.take());
                    true
                }
            }
        });
        failed
    }
}

impl Known {
    fn new(id: FileId) -> Self {
        let (device, inode) = id.parts();
        Self {
            device,
            inode,
            offset: 0,
            head_length: 0,
            head_hash: hex_digest(b""),
            is_ignored: false,
            missing: 0,
            stamp: None,
        }
    }

    fn id(&self) -> FileId {
        FileId::from_parts(self.device, self.inode)
    }

    /// Counts the whole lines that are new in the file at `path`; false if it is not the file that was read before, or
    /// not all of it. Of a file that was replaced meanwhile nothing is read.
    fn read_on(&mut self, source: Source, path: &Path, totals: &mut Totals) -> Result<bool> {
        let Some((file, stamp)) = self.open(path)? else { return Ok(true) };
        if self.stamp == Some(stamp) {
            return Ok(true);
        }
        let is_shorter = stamp.size < self.offset && !self.is_ignored;
        if is_shorter || !self.has_head(&file, stamp.size).context("read", path)? {
            return Ok(false);
        }
        if self.is_ignored {
            self.stamp = Some(stamp);
            return Ok(true);
        }
        // If reading fails in the middle, all of it is read again.
        let mut counted = totals.clone();
        let end = for_each_line(&file, self.offset, stamp.size, |_, line| count(source, line, &mut counted))
            .context("read", path)?;
        self.set_offset(&file, end).context("read", path)?;
        self.stamp = Some(stamp);
        *totals = counted;
        Ok(true)
    }

    /// Takes the file's whole lines for read.
    fn skip(&mut self, path: &Path) -> Result<()> {
        let Some((file, stamp)) = self.open(path)? else { return Ok(()) };
        let end = line_start(&file, stamp.size).context("read", path)?;
        self.set_offset(&file, end).context("read", path)
    }

    fn is_at(&self, path: &Path) -> Result<bool> {
        match self.open(path)? {
            Some((file, stamp)) => self.has_head(&file, stamp.size).context("read", path),
            None => Ok(false),
        }
    }

    /// Opens the file; none if another one is at the path by now.
    fn open(&self, path: &Path) -> Result<Option<(File, Stamp)>> {
        let file = match files::open_regular(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.context("open", path)?,
        };
        let stamp = Stamp::of_file(&file).context("look at", path)?;
        Ok((stamp.id == self.id()).then_some((file, stamp)))
    }

    fn has_head(&self, file: &File, size: u64) -> io::Result<bool> {
        Ok(size >= self.head_length && head_hash(file, self.head_length)? == self.head_hash)
    }

    fn set_offset(&mut self, file: &File, offset: u64) -> io::Result<()> {
        if self.head_length < HEAD.min(offset) {
            let head_hash = head_hash(file, HEAD.min(offset))?;
            self.head_length = HEAD.min(offset);
            self.head_hash = head_hash;
        }
        self.offset = offset;
        Ok(())
    }
}

fn head_hash(file: &File, length: u64) -> io::Result<String> {
    let mut head = vec![0; usize::try_from(length.min(HEAD)).unwrap_or_default()];
    read_exact_at(file, &mut head, 0)?;
    Ok(hex_digest(&head))
}

/// Whether a file that was not known holds lines and is no copy of another one.
fn is_original(found: &Found, listing: &Listing, path: &Path, known: &[Known]) -> bool {
    let head = read_head(found);
    // Less than a line tells nothing of a file.
    let tells = |head: &[u8]| head.len() as u64 == HEAD || head.contains(&b'\n');
    let begins_like = |known: &Known| {
        let length = usize::try_from(known.head_length).unwrap_or(usize::MAX);
        (1..=head.len()).contains(&length) && hex_digest(&head[..length]) == known.head_hash
    };
    // Of a file and its copy, neither of them known, the longer or older one counts.
    let order =
        |found: &Found| (found.stamp.size, Reverse((found.stamp.modified_ns, found.stamp.id.parts())));
    let comes_first = |other: &&Found| {
        known.iter().any(|known| known.id() == other.stamp.id) || order(other) > order(found)
    };
    let is_copy_of = |other: &Found| {
        let other = read_head(other);
        let length = other.len().min(head.len());
        tells(&head[..length]) && other[..length] == head[..length]
    };
    head.first() == Some(&b'{')
        && tells(&head)
        && !known.iter().any(begins_like)
        && !listing.current.iter().chain(listing.rotated(path).filter(comes_first)).any(is_copy_of)
}

/// The first bytes of a file; none if it can't be read.
fn read_head(found: &Found) -> Vec<u8> {
    let mut head = vec![0; usize::try_from(found.stamp.size.min(HEAD)).unwrap_or_default()];
    let file = files::open_regular(&found.path);
    match file.and_then(|file| read_exact_at(&file, &mut head, 0)) {
        Ok(()) => head,
        Err(_) => Vec::new(),
    }
}

//! Appending to a journal, and repairing its end.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{LONGEST_LINE, line_start};
use crate::clock::{Clock, SystemClock, iso_timestamp};
use crate::durability::{DurableFile, Sync};
use crate::error::{IoContext, Result};
use crate::files::{self, FileId, Stamp, open_with_folders, read_exact_at, write_all_at};
use crate::json;
use crate::log;

/// A journal that this process appends to. Every method needs the journal's lock to be held.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: Arc<DurableFile>,
    id: FileId,
    /// The size up to which the end is known to be a line end.
    whole_to: u64,
    /// Whether what lies behind the part that was synced may never have reached the disk.
    must_be_rewritten: bool,
}

/// How much of a file is copied at once.
const PIECE: usize = 1 << 20;

impl Journal {
    /// The journal at `path`. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Where the journal is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file, with its folders, if it is absent.
    pub fn create(&mut self) -> Result<()> {
        self.open_current().map(drop)
    }

    /// Appends whole lines, each with its line end, by one write, after putting aside a half line at the end.
    ///
    /// If it fails, the file is as long as before. Returns the offset at which the lines begin.
    pub fn append(&mut self, lines: &[u8]) -> Result<u64> {
        let path = self.path.clone();
        let (open, size) = self.open_current()?;
        let size = if size == open.whole_to { size } else { repair_end(&open.file, &path, size)? };
        match (&**open.file).write_all(lines) {
            Ok(()) => {
                open.whole_to = size + lines.len() as u64;
                Ok(size)
            }
            Err(error) => {
                // Whatever part was written must not become half of a line. If that fails too, the next append
                // finds the half line and puts it aside.
                let _ = open.file.set_len(size);
                open.whole_to = 0;
                Err(error).context("append to", &path)
            }
        }
    }

    /// Appends whole lines by one write to a file that others append to without the lock.
    ///
    /// Nothing is ever cut off: what looks like a half line may be one that another process is just writing. It is only
    /// ended, so that it spoils no other; if it was whole by then, that leaves an empty line. If the append fails, a
    /// part of it may have been written.
    pub fn append_beside_others(&mut self, lines: &[u8]) -> Result<()> {
        let path = self.path.clone();
        let (open, size) = self.open_current()?;
        let mut last = *b"\n";
        if size > 0 && size != open.whole_to {
            read_exact_at(&open.file, &mut last, size - 1).context("read", &path)?;
        }
        open.whole_to = 0;
        let ended;
        let bytes = if last == *b"\n" {
            lines
        } else {
            ended = [b"\n", lines].concat();
            &ended
        };
        // What a second write would add might stand behind somebody else's line.
        match (&**open.file).write(bytes).context("append to", &path)? {
            written if written == bytes.len() => {
                open.whole_to = size + bytes.len() as u64;
                Ok(())
            }
            _ => Err(io::Error::from(io::ErrorKind::StorageFull)).context("append to", &path),
        }
    }

    /// Puts aside a half line at the end, if there is one. Returns the stamp of the file.
    pub fn repair(&mut self) -> Result<Stamp> {
        let path = self.path.clone();
        let (open, size) = self.open_current()?;
        if size != open.whole_to {
            open.whole_to = repair_end(&open.file, &path, size)?;
        }
        Stamp::of_file(&open.file).context("look at", &path)
    }

    /// The sync of what was appended, to be run when the lock has been released.
    ///
    /// After a sync that failed, everything since the one before it is written again first: see
    /// [`durability`](crate::durability).
    pub fn sync(&mut self) -> Result<Sync> {
        let path = self.path.clone();
        let (open, size) = self.open_current()?;
        if open.must_be_rewritten {
            rewrite(&path, &open.file, size).context("write again, after a failed sync,", &path)?;
            open.must_be_rewritten = false;
        }
        Ok(open.file.sync(&path, size))
    }

    /// The open file, for reading.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        self.open.as_ref().map(|open| &**open.file)
    }

    /// Opens the file that is at the path now; also gives its size.
    fn open_current(&mut self) -> Result<(&mut Open, u64)> {
        let stamp = Stamp::of_path(&self.path).context("look at", &self.path)?;
        let known = self.open.as_ref().filter(|open| stamp.is_some_and(|stamp| stamp.id == open.id));
        let size = if known.is_some_and(|open| !open.file.is_in_doubt()) {
            stamp.map_or(0, |stamp| stamp.size)
        } else {
            let synced_to = known.map(|open| open.file.synced_to());
            let mut options = files::options();
            options.read(true).append(true).create(true);
            let file = open_with_folders(&options, &self.path).context("open", &self.path)?;
            let stamp = Stamp::of_file(&file).context("look at", &self.path)?;
            self.open = Some(Open {
                file: DurableFile::new(file, synced_to.unwrap_or(stamp.size)),
                id: stamp.id,
                whole_to: 0,
                must_be_rewritten: synced_to.is_some(),
            });
            stamp.size
        };
        match &mut self.open {
            Some(open) => Ok((open, size)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)).context("open", &self.path),
        }
    }
}

/// Writes the bytes of the file that were not synced once more, as they are, so that the system takes them for new.
fn rewrite(path: &Path, file: &DurableFile, size: u64) -> io::Result<()> {
    // Another handle, for the journal's own writes at the end wherever it is told to.
    let writer = files::options().write(true).open(path)?;
    let mut buffer = vec![0; PIECE];
    let mut at = file.synced_to();
    while at < size {
        let piece = PIECE.min(usize::try_from(size - at).unwrap_or(PIECE));
        read_exact_at(file, &mut buffer[..piece], at)?;
        write_all_at(&writer, &buffer[..piece], at)?;
        at += piece as u64;
    }
    Ok(())
}

/// Makes sure that the file ends with a line end; returns its size then.
///
/// A last line without one is completed if it is whole JSON. Otherwise it is what a crash left of an append that was
/// never acknowledged; it is moved to a file beside the journal.
fn repair_end(file: &File, path: &Path, size: u64) -> Result<u64> {
    if size == 0 {
        return Ok(0);
    }
    let mut last = [0];
    read_exact_at(file, &mut last, size - 1).context("read", path)?;
    if last == *b"\n" {
        return Ok(size);
    }
    let start = line_start(file, size).context("read", path)?;
    if let Ok(length) = usize::try_from(size - start)
        && length <= LONGEST_LINE
    {
        let mut line = vec![0; length];
        read_exact_at(file, &mut line, start).context("read", path)?;
        if json::is_value(&line) {
            (&*file).write_all(b"\n").context("append to", path)?;
            return Ok(size + 1);
        }
    }
    let aside = damaged_path(path);
    if let Err(error) = keep(file, start, size, &aside).context("keep a damaged line in", &aside) {
        // The next try makes another file.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    file.set_len(start).context("cut a damaged line off", path)?;
    log::warning(
        "The last line of a journal was incomplete, as after a crash; it was put aside",
        &[("file", &path.to_string_lossy()), ("kept_as", &aside.to_string_lossy())],
    );
    Ok(start)
}

/// Copies a part of the file to a new file `aside` for the same readers, in pieces; what is zeros takes no space there.
fn keep(file: &File, from: u64, to: u64, aside: &Path) -> io::Result<()> {
    let kept = files::private_options().write(true).create_new(true).open(aside)?;
    kept.set_permissions(file.metadata()?.permissions())?;
    kept.set_len(to - from)?;
    let mut buffer = vec![0; PIECE];
    let mut at = from;
    while at < to {
        let piece = PIECE.min(usize::try_from(to - at).unwrap_or(PIECE));
        read_exact_at(file, &mut buffer[..piece], at)?;
        if buffer[..piece].iter().any(|byte| *byte != 0) {
            write_all_at(&kept, &buffer[..piece], at - from)?;
        }
        at += piece as u64;
    }
    Ok(())
}

/// A name beside `path` that says that the content is damaged, and since when it is there.
pub(crate) fn damaged_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let time = iso_timestamp(SystemClock.wall_ms()).replace(':', "-");
    name.push(format!(".damaged-{time}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().join("state/process/journal.jsonl"));
        (folder, journal)
    }

    fn content(journal: &Journal) -> String {
        std::fs::read_to_string(journal.path()).unwrap()
    }

    fn damaged(journal: &Journal) -> Vec<String> {
        std::fs::read_dir(journal.path().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".damaged-"))
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect()
    }

    #[test]
    fn lines_are_appended_one_after_another() {
        let (_folder, mut journal) = journal();
        assert_eq!(journal.append(b"{}\n").unwrap(), 0);
        assert_eq!(journal.append(b"{\"a\":1}\n{}\n").unwrap(), 3);
        assert_eq!(content(&journal), "{}\n{\"a\":1}\n{}\n");
    }

    #[test]
    fn a_half_line_is_put_aside() {
        let (_folder, mut journal) = journal();
        journal.append(b"{}\n").unwrap();
        std::fs::write(journal.path(), "{}\n{\"a\":").unwrap();
        journal.append(b"{\"b\":2}\n").unwrap();
        assert_eq!(content(&journal), "{}\n{\"b\":2}\n");
        assert_eq!(damaged(&journal), ["{\"a\":"]);
    }

    #[test]
    fn a_whole_last_line_only_lacks_its_line_end() {
        let (_folder, mut journal) = journal();
        journal.create().unwrap();
        std::fs::write(journal.path(), "{\"a\":1}").unwrap();
        journal.append(b"{}\n").unwrap();
        assert_eq!(content(&journal), "{\"a\":1}\n{}\n");
        assert!(damaged(&journal).is_empty());
    }

    #[test]
    fn ten_crashes_in_a_row_lose_no_whole_line() {
        let (_folder, mut journal) = journal();
        for round in 0..10 {
            journal.append(format!("{{\"round\":{round}}}\n").as_bytes()).unwrap();
            let mut torn = content(&journal);
            torn.push_str(&"x".repeat(round * 1000 + 1));
            std::fs::write(journal.path(), torn).unwrap();
            journal = Journal::new(journal.path().to_owned());
        }
        journal.append(b"{}\n").unwrap();
        assert_eq!(content(&journal).lines().count(), 11);
        assert_eq!(damaged(&journal).len(), 10);
    }

    #[test]
    fn a_journal_that_was_removed_or_replaced_is_opened_again() {
        let (_folder, mut journal) = journal();
        journal.append(b"{}\n").unwrap();
        std::fs::remove_dir_all(journal.path().parent().unwrap()).unwrap();
        journal.append(b"{\"a\":1}\n").unwrap();
        assert_eq!(content(&journal), "{\"a\":1}\n");
    }

    #[test]
    fn after_a_failed_sync_what_it_left_is_written_again() {
        let (_folder, mut journal) = journal();
        journal.append(b"{\"synced\":1}\n").unwrap();
        journal.sync().unwrap().run().unwrap();
        journal.append(b"{\"lost\":2}\n").unwrap();
        let doubtful = Arc::clone(&journal.open.as_ref().unwrap().file);
        // Its first sync there would be of a folder that isn't.
        let twin = DurableFile::new(doubtful.try_clone().unwrap(), doubtful.synced_to());
        assert!(twin.sync(Path::new("/nowhere/journal"), 0).run().is_err());
        journal.open.as_mut().unwrap().file = twin;

        journal.append(b"{\"next\":3}\n").unwrap();
        let open = journal.open.as_ref().unwrap();
        assert!(!open.file.is_in_doubt() && open.must_be_rewritten);
        assert_eq!(open.file.synced_to(), 13);
        let before = std::fs::metadata(journal.path()).unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        journal.sync().unwrap().run().unwrap();
        assert_eq!(content(&journal), "{\"synced\":1}\n{\"lost\":2}\n{\"next\":3}\n");
        assert!(std::fs::metadata(journal.path()).unwrap().modified().unwrap() > before);
        let open = journal.open.as_ref().unwrap();
        assert!(!open.must_be_rewritten && open.file.synced_to() == 35);
    }
}

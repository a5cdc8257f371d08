//! Following a journal as it grows, so that each line is read once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{LONGEST_LINE, for_each_line};
use crate::error::{Error, IoContext, Result};
use crate::files::{Stamp, read_exact_at};
use crate::json;
use crate::patience::Patience;

/// How much of the end that was read last is compared before the file is taken to have only grown.
const COMPARED: usize = 256;

/// More than this many bytes are not read while a caller that can't wait does.
pub(crate) const READ_AT_ONCE: u64 = 128 << 10;

/// What is kept in memory of a journal.
pub trait Summary: Default {
    /// Takes in one line, without its line end. `offset` is where it starts in the file.
    fn add(&mut self, offset: u64, line: &[u8]);
}

/// A journal's summary and how far it goes.
#[derive(Debug)]
pub struct Tail<S> {
    path: PathBuf,
    followed: Option<Followed>,
    summary: S,
}

#[derive(Debug)]
struct Followed {
    file: File,
    stamp: Stamp,
    read_to: u64,
    /// The bytes before `read_to`: a person may have edited the file, so growth alone doesn't prove an append.
    end: Vec<u8>,
}

impl<S: Summary> Tail<S> {
    /// Follows the journal at `path`. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, followed: None, summary: S::default() }
    }

    /// How many bytes [`Tail::catch_up`] would have to read, as far as a look at the file tells.
    pub fn unread(&self) -> Result<u64> {
        let stamp = self.stamp()?;
        Ok(match (&self.followed, stamp) {
            (_, None) => 0,
            (Some(known), Some(now)) if known.stamp.id == now.id && now.size >= known.read_to => {
                if now.size == known.stamp.size && now.modified_ns != known.stamp.modified_ns {
                    now.size
                } else {
                    now.size - known.read_to
                }
            }
            (_, Some(now)) => now.size,
        })
    }

    /// [`Tail::catch_up`], except that a caller who can't wait gets [`Error::JournalLocked`] if there is much to read.
    pub fn catch_up_within(&mut self, patience: Patience) -> Result<(&S, Option<&File>)> {
        if patience == Patience::Now && self.unread()? > READ_AT_ONCE {
            return Err(Error::JournalLocked { path: self.path.clone(), waited: Duration::ZERO });
        }
        self.catch_up()
    }

    /// Takes in what the file has more than at the last call; all of it if it is not the old file grown longer.
    /// Returns the summary and, unless there is no file, the file.
    pub fn catch_up(&mut self) -> Result<(&S, Option<&File>)> {
        let Some(now) = self.stamp()? else {
            self.followed = None;
            self.summary = S::default();
            return Ok((&self.summary, None));
        };
        let has_grown = match &self.followed {
            Some(known) if known.stamp == now => {
                return Ok((&self.summary, self.followed.as_ref().map(|known| &known.file)));
            }
            Some(known) => known.has_grown_to(&now).context("read", &self.path)?,
            None => false,
        };
        if !has_grown {
            self.followed = None;
            self.summary = S::default();
            let file = File::open(&self.path).context("open", &self.path)?;
            let stamp = Stamp::of_file(&file).context("look at", &self.path)?;
            self.followed = Some(Followed { file, stamp, read_to: 0, end: Vec::new() });
        }
        if let Some(known) = &mut self.followed {
            let stamp = if has_grown { now } else { known.stamp };
            if let Err(error) = known.read_on(&mut self.summary, stamp) {
                // Some of the lines may be in the summary, and it would be taken for all of them.
                self.followed = None;
                self.summary = S::default();
                return Err(error).context("read", &self.path);
            }
        }
        Ok((&self.summary, self.followed.as_ref().map(|known| &known.file)))
    }

    /// Where the journal is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn stamp(&self) -> Result<Option<Stamp>> {
        Stamp::of_path(&self.path).context("look at", &self.path)
    }
}

impl Followed {
    fn has_grown_to(&self, now: &Stamp) -> std::io::Result<bool> {
        if now.id != self.stamp.id || now.size < self.read_to || now.size <= self.stamp.size {
            return Ok(false);
        }
        Ok(self.end == read_before(&self.file, self.read_to, self.end.len())?)
    }

    fn read_on<S: Summary>(&mut self, summary: &mut S, now: Stamp) -> std::io::Result<()> {
        let mut read_to = for_each_line(&self.file, self.read_to, now.size, |offset, line| {
            if !line.trim_ascii().is_empty() {
                summary.add(offset, line);
            }
        })?;
        // A last line without a line end counts if it is whole; else somebody is just writing it, or has crashed.
        let rest = usize::try_from(now.size - read_to).ok().filter(|length| *length <= LONGEST_LINE);
        let rest = read_before(&self.file, now.size, rest.unwrap_or(0))?;
        if !rest.is_empty() && json::is_value(&rest) {
            summary.add(read_to, &rest);
            read_to = now.size;
        }
        self.read_to = read_to;
        self.stamp = now;
        self.end =
            read_before(&self.file, read_to, COMPARED.min(usize::try_from(read_to).unwrap_or(COMPARED)))?;
        Ok(())
    }
}

/// The `length` bytes before `end`.
fn read_before(file: &File, end: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    read_exact_at(file, &mut bytes, end - length as u64)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug)]
    struct Lines {
        seen: Vec<(u64, String)>,
    }

    impl Summary for Lines {
        fn add(&mut self, offset: u64, line: &[u8]) {
            self.seen.push((offset, String::from_utf8_lossy(line).into_owned()));
        }
    }

    fn seen(tail: &mut Tail<Lines>) -> Vec<String> {
        tail.catch_up().unwrap().0.seen.iter().map(|(_, line)| line.clone()).collect()
    }

    fn tail(content: &str) -> (tempfile::TempDir, Tail<Lines>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.jsonl");
        std::fs::write(&path, content).unwrap();
        (folder, Tail::new(path))
    }

    fn append(tail: &Tail<Lines>, more: &str) {
        use std::io::Write;
        File::options().append(true).open(tail.path()).unwrap().write_all(more.as_bytes()).unwrap();
    }

    #[test]
    fn only_what_is_new_is_read() {
        let (_folder, mut tail) = tail("1\n");
        assert_eq!(seen(&mut tail), ["1"]);
        append(&tail, "2\n3\n");
        assert_eq!(tail.unread().unwrap(), 4);
        assert_eq!(seen(&mut tail), ["1", "2", "3"]);
        assert_eq!(tail.unread().unwrap(), 0);
    }

    #[test]
    fn a_half_line_waits_for_its_end() {
        let (_folder, mut tail) = tail("1\n{\"a\"");
        assert_eq!(seen(&mut tail), ["1"]);
        append(&tail, ":2}\n");
        assert_eq!(seen(&mut tail), ["1", "{\"a\":2}"]);
    }

    #[test]
    fn a_whole_last_line_counts_without_a_line_end_and_only_once() {
        let (_folder, mut tail) = tail("1\n{}");
        assert_eq!(seen(&mut tail), ["1", "{}"]);
        append(&tail, "\n2\n");
        assert_eq!(seen(&mut tail), ["1", "{}", "2"]);
    }

    #[test]
    fn an_edited_file_is_read_anew() {
        let (_folder, mut tail) = tail("1\n2\n");
        assert_eq!(seen(&mut tail), ["1", "2"]);
        std::fs::write(tail.path(), "1\n3\n4\n").unwrap();
        assert_eq!(seen(&mut tail), ["1", "3", "4"]);
        std::fs::write(tail.path(), "5\n").unwrap();
        assert_eq!(seen(&mut tail), ["5"]);
        std::fs::remove_file(tail.path()).unwrap();
        assert_eq!(seen(&mut tail), [""; 0]);
    }

    #[test]
    fn a_replaced_file_is_read_anew() {
        let (folder, mut tail) = tail("1\n");
        assert_eq!(seen(&mut tail), ["1"]);
        let new = folder.path().join("new");
        std::fs::write(&new, "1\n2\n").unwrap();
        std::fs::rename(&new, tail.path()).unwrap();
        assert_eq!(seen(&mut tail), ["1", "2"]);
    }
}

//! The ledger in a file of a workspace.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::entry::{GENESIS, StoredEntry, Transition, of_task, write_entry};
use super::store::{LedgerStats, LedgerStore, count_appends, last_hash_of};
use super::verify::{Verification, verify};
use crate::clock::{Clock, iso_timestamp};
use crate::durability::Durability;
use crate::error::{Error, IoContext, Result};
use crate::files::{self, Stamp, read_exact_at, sync_folders};
use crate::gate::{Gate, Guard};
use crate::journal::reader::{LONGEST_LINE, line_start};
use crate::journal::tail::READ_AT_ONCE;
use crate::journal::{Journal, JournalLock, PROCESS_FOLDER, Summary, Tail, TaskIndex};
use crate::location::Location;
use crate::patience::Patience;
use crate::shared::Shared;
use crate::text::Text;

/// The ledger of one workspace, shared by all who use it in this process.
#[derive(Debug)]
pub struct FileLedger {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    state: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    lock: JournalLock,
    journal: Journal,
    /// The last entry's hash, as of this stamp of the file.
    head: Option<(Stamp, String)>,
    history: Tail<LedgerSummary>,
}

impl FileLedger {
    /// The ledger of the workspace at `workspace`. Does no I/O.
    #[must_use]
    pub fn new(workspace: &Path, clock: Arc<dyn Clock>) -> Self {
        let folder = workspace.join(PROCESS_FOLDER);
        let path = folder.join("ledger.jsonl");
        let state = Mutex::new(Files {
            lock: JournalLock::new(folder.join(".ledger.lock")),
            journal: Journal::new(path.clone()),
            head: None,
            history: Tail::new(path.clone()),
        });
        Self { path, clock, state }
    }

    /// The one store of this process for the workspace.
    pub fn shared(workspace: &Path, clock: &Arc<dyn Clock>) -> Arc<Self> {
        static STORES: Shared<FileLedger> = Shared::new();
        STORES.get(workspace, || Self::new(workspace, Arc::clone(clock)))
    }

    fn try_append(
        &self,
        gate: Gate<'_>,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>> {
        if durability.would_block(patience) {
            return Err(self.would_block());
        }
        let mut files = self.files(patience)?;
        let Files { lock, journal, head, .. } = &mut *files;
        let guard = lock.acquire(patience)?;
        let stamp = journal.repair()?;
        let mut previous = match head.take() {
            Some((known, hash)) if known == stamp => hash,
            _ => last_hash(journal, stamp.size)?,
        };
        let now = iso_timestamp(self.clock.wall_ms());
        let mut lines = Vec::with_capacity(512 * transitions.len());
        let mut starts = Vec::with_capacity(transitions.len());
        for transition in transitions {
            starts.push(lines.len());
            let id = uuid::Uuid::new_v4().to_string();
            previous = write_entry(&mut lines, transition, &id, &now, &previous);
        }
        gate(&mut || journal.append(&lines).map(drop))?;
        *head = journal.file().and_then(|file| Stamp::of_file(file).ok()).map(|stamp| (stamp, previous));
        if durability == Durability::PowerCut {
            let sync = journal.sync()?;
            drop(guard);
            drop(files);
            if let Err(error) = sync.run() {
                // The next entry goes onto what the file then says, not onto what this process has written.
                if let Ok(mut files) = self.files(patience) {
                    files.head = None;
                }
                return Err(error);
            }
        }
        let ends = starts.iter().skip(1).copied().chain([lines.len()]);
        let line =
            |(start, end): (&usize, usize)| String::from_utf8_lossy(&lines[*start..end - 1]).into_owned();
        Ok(starts.iter().zip(ends).map(line).collect())
    }

    fn files(&self, patience: Patience) -> Result<MutexGuard<'_, Files>> {
        patience.lock(&self.state).ok_or_else(|| self.would_block())
    }

    fn would_block(&self) -> Error {
        Error::JournalLocked { path: self.path.clone(), waited: Duration::ZERO }
    }
}

impl LedgerStore for FileLedger {
    fn location(&self) -> Location<'_> {
        Location::Path(&self.path)
    }

    fn initialize(&self, durability: Durability, patience: Patience) -> Result<()> {
        if durability.would_block(patience) {
            return Err(self.would_block());
        }
        let folder = self.path.parent().unwrap_or(&self.path);
        std::fs::create_dir_all(folder).context("create", folder)?;
        match durability {
            Durability::PowerCut => sync_folders(&self.path).context("sync", folder),
            Durability::Process => Ok(()),
        }
    }

    fn exists(&self, _: Patience) -> Result<bool> {
        Ok(self.path.is_file())
    }

    fn append_through(
        &self,
        guard: Guard<'_>,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>> {
        let gate = guard.as_gate()?;
        let appended = self.try_append(gate, transitions, durability, patience);
        count_appends(&appended, transitions.len(), patience);
        appended
    }

    fn verify(&self, patience: Patience) -> Result<Verification> {
        let size = |stamp: Option<Stamp>| stamp.map_or(0, |stamp| stamp.size);
        let stamp = Stamp::of_path(&self.path).context("look at", &self.path)?;
        if size(stamp) == 0 {
            return Ok(Verification::default());
        }
        if patience == Patience::Now && size(stamp) > READ_AT_ONCE {
            return Err(self.would_block());
        }
        // Under the lock nobody is in the middle of an append, so the file ends with a whole line; without it the
        // check would at worst report half of a line that is just being written. Whoever may only read can't lock.
        let size = {
            let mut files = self.files(patience)?;
            let _guard = match files.lock.acquire(patience) {
                Err(Error::Io { .. }) => None,
                guard => Some(guard?),
            };
            size(Stamp::of_path(&self.path).context("look at", &self.path)?)
        };
        let file = files::options().read(true).open(&self.path).context("open", &self.path)?;
        verify(&file, size).context("read", &self.path)
    }

    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>> {
        let mut files = self.files(patience)?;
        let (summary, file) = files.history.catch_up_within(patience)?;
        let Some(file) = file else { return Ok(Vec::new()) };
        let mut lines = summary.tasks.read(file, task.as_wtf8()).context("read", &self.path)?;
        lines.retain(|line| of_task(line, task).is_some());
        Ok(lines)
    }

    fn current_phase(&self, task: &Text, patience: Patience) -> Result<Option<Text>> {
        let mut files = self.files(patience)?;
        let (summary, file) = files.history.catch_up_within(patience)?;
        let Some(file) = file else { return Ok(None) };
        let phase = |line: &[u8]| of_task(line, task).and_then(|entry| entry.to_phase());
        summary.tasks.find_newest(file, task.as_wtf8(), phase).context("read", &self.path)
    }

    fn stats(&self, patience: Patience) -> Result<LedgerStats> {
        let mut files = self.files(patience)?;
        let (summary, _) = files.history.catch_up_within(patience)?;
        let last = StoredEntry::from_line(&summary.last);
        Ok(LedgerStats {
            total_entries: summary.entries,
            unique_tasks: summary.tasks.task_count() as u64,
            oldest_entry: summary.oldest.clone(),
            newest_entry: last.as_ref().and_then(StoredEntry::timestamp),
            last_hash: last_hash_of(last.as_ref()),
            damaged_lines: summary.damaged_lines,
        })
    }
}

/// The hash of the last entry that can be read in the first `size` bytes.
fn last_hash(journal: &Journal, size: u64) -> Result<String> {
    let Some(file) = journal.file() else { return Ok(GENESIS.to_owned()) };
    let mut end = size;
    while end > 0 {
        let (start, line) = line_before(file, end).context("read", journal.path())?;
        let entry = StoredEntry::from_line(&line);
        if let Some(hash) = entry.and_then(|entry| entry.entry_hash()) {
            return Ok(String::from_utf8_lossy(&hash).into_owned());
        }
        end = start;
    }
    Ok(GENESIS.to_owned())
}

/// The line that ends, with its line end, at `end`, and where it starts; nothing of one that is too long for an entry.
fn line_before(file: &File, end: u64) -> std::io::Result<(u64, Vec<u8>)> {
    let start = line_start(file, end - 1)?;
    let length = usize::try_from(end - start).ok().filter(|length| *length <= LONGEST_LINE);
    let mut line = vec![0; length.unwrap_or(0)];
    read_exact_at(file, &mut line, start)?;
    Ok((start, line))
}

/// What is kept in memory of a ledger.
#[derive(Debug, Default)]
struct LedgerSummary {
    tasks: TaskIndex,
    entries: u64,
    oldest: Option<Text>,
    /// The last line that can be read.
    last: Vec<u8>,
    damaged_lines: u64,
}

impl Summary for LedgerSummary {
    fn add(&mut self, offset: u64, line: &[u8]) {
        let Some(entry) = StoredEntry::from_line(line) else {
            self.damaged_lines += 1;
            return;
        };
        self.entries += 1;
        if let Some(task) = entry.task() {
            self.tasks.add(&task, offset, line.len());
        }
        if self.oldest.is_none() {
            self.oldest = entry.timestamp();
        }
        self.last.clear();
        self.last.extend_from_slice(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn store() -> (tempfile::TempDir, FileLedger) {
        let folder = tempfile::tempdir().unwrap();
        let store = FileLedger::new(folder.path(), Arc::new(ManualClock::new(1_767_225_600_000)));
        (folder, store)
    }

    fn step(task: &str, phase: &str) -> Transition {
        Transition { task_id: task.into(), to_phase: phase.into(), ..Transition::default() }
    }

    fn append(store: &FileLedger, task: &str, phase: &str) {
        store.append(&[&step(task, phase)], Durability::Process, Patience::Now).unwrap();
    }

    #[test]
    fn the_chain_goes_on_after_a_torn_line_and_after_garbage() {
        let (_folder, store) = store();
        append(&store, "a", "1");
        let content = std::fs::read_to_string(&store.path).unwrap();
        std::fs::write(&store.path, format!("{content}{}", &content[..40])).unwrap();
        append(&store, "a", "2");
        assert!(store.verify(Patience::Now).unwrap().is_valid());
        let content = std::fs::read_to_string(&store.path).unwrap();
        std::fs::write(&store.path, format!("{content}garbage\n")).unwrap();
        append(&store, "a", "3");
        let content = std::fs::read_to_string(&store.path).unwrap();
        std::fs::write(&store.path, content.replace("garbage\n", "")).unwrap();
        assert!(store.verify(Patience::Now).unwrap().is_valid());
        assert_eq!(store.stats(Patience::Now).unwrap().total_entries, 3);
    }
}

//! A workspace's files as a side of a migration.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lines::{Lines, Take};
use super::{PATIENCE, Side};
use crate::attestation::baseline::Baseline;
use crate::attestation::baseline_file::{BaselineFile, State};
use crate::attestation::salvage::Baselines;
use crate::clock::Clock;
use crate::durability::Durability;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::journal::reader::for_each_line;
use crate::journal::{Journal, JournalLock, PROCESS_FOLDER};
use crate::json;
use crate::lease::{LeaseStore, SqliteLeaseStore};
use crate::ledger::{FileLedger, LedgerStore};
use crate::patience::Patience;

/// How many lines are given at once, and how many bytes about.
const AT_ONCE: (usize, usize) = (256, 1 << 20);

pub(super) struct Files {
    root: PathBuf,
    clock: Arc<dyn Clock>,
    ledger: FileLedger,
}

impl Files {
    pub(super) fn new(root: &Path, clock: &Arc<dyn Clock>) -> Self {
        let ledger = FileLedger::new(root, Arc::clone(clock));
        Self { root: root.to_owned(), clock: Arc::clone(clock), ledger }
    }

    fn journal(&self, name: &str, lock: &str) -> Box<dyn Lines + '_> {
        Box::new(JournalLines { path: self.file(name), lock: self.file(lock) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(PROCESS_FOLDER).join(name)
    }

    fn baselines_path(&self) -> PathBuf {
        self.file("prompt_baselines.json")
    }
}

/// The lock over attestations, resets and baselines.
const ATTESTATIONS_LOCK: &str = ".prompt_attestations.lock";

impl Side for Files {
    fn shown(&self) -> String {
        self.root.display().to_string()
    }

    fn ledger(&self) -> &dyn LedgerStore {
        &self.ledger
    }

    fn entries(&self) -> Box<dyn Lines + '_> {
        self.journal("ledger.jsonl", ".ledger.lock")
    }

    fn attestations(&self) -> Box<dyn Lines + '_> {
        self.journal("prompt_attestations.jsonl", ATTESTATIONS_LOCK)
    }

    fn resets(&self) -> Box<dyn Lines + '_> {
        self.journal("prompt_baseline_updates.jsonl", ATTESTATIONS_LOCK)
    }

    fn baselines(&self) -> Result<Baselines> {
        let path = self.baselines_path();
        let content = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Baselines::new()),
            content => content.context("read", &path)?,
        };
        let mut baselines = Baselines::new();
        let whole = json::object(&content, |entry| {
            // What can't be split into a task and a phase is compared with nothing.
            let key = json::text(&content[entry.key]).filter(|key| key.as_wtf8().contains(&b':'));
            if let (Some(key), Some(baseline)) = (key, Baseline::from_json(&content[entry.value])) {
                baselines.insert(key, baseline);
            }
        });
        whole.map(|_| baselines).map_err(|_| Error::Io {
            action: "read",
            path,
            source: std::io::Error::other("it is damaged; any attestation mends it"),
        })
    }

    fn put_baselines(&self, baselines: &Baselines) -> Result<()> {
        if baselines.is_empty() {
            return Ok(());
        }
        let mut lock = JournalLock::new(self.file(ATTESTATIONS_LOCK));
        let mut file = BaselineFile::new(self.baselines_path());
        let patience = Patience::lasting(PATIENCE);
        let guard = lock.acquire(patience)?;
        let mut all = self.baselines()?;
        if let State::Damaged(_) = file.refresh(guard.file(), patience)? {
            return self.baselines().map(drop);
        }
        all.extend(baselines.iter().map(|(key, baseline)| (key.clone(), baseline.clone())));
        file.write_all(guard.file(), all.iter(), Durability::PowerCut)?;
        let sync = file.sync();
        drop(guard);
        sync.map_or(Ok(()), crate::durability::Sync::run)
    }

    fn leases(&self, is_target: bool) -> Result<Option<Box<dyn LeaseStore>>> {
        let clock = Arc::clone(&self.clock);
        let store = if is_target {
            SqliteLeaseStore::open(&self.root, clock, Durability::PowerCut)?
        } else if self.root.join("state/orchestrator.db").exists() {
            SqliteLeaseStore::open_existing(&self.root, clock, Durability::PowerCut)?
        } else {
            return Ok(None);
        };
        Ok(Some(Box::new(store)))
    }
}

/// The lines of a journal.
struct JournalLines {
    path: PathBuf,
    lock: PathBuf,
}

impl Lines for JournalLines {
    fn read(&self, from: u64, to: u64, take: &mut Take<'_>) -> Result<u64> {
        let file = match files::options().read(true).open(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            file => file.context("open", &self.path)?,
        };
        let size = file.metadata().context("look at", &self.path)?.len();
        let (mut position, mut damaged, mut failed) = (0, 0, None);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut line = |line: &[u8]| {
            if line.trim_ascii().is_empty() || failed.is_some() {
                return;
            }
            if json::fields(line, []).is_none() {
                damaged += 1;
                return;
            }
            position += 1;
            if position <= from || position > to {
                return;
            }
            bytes += line.len();
            batch.push(line.to_vec());
            if batch.len() >= AT_ONCE.0 || bytes >= AT_ONCE.1 {
                failed = take(&batch).err();
                batch.clear();
                bytes = 0;
            }
        };
        let end = for_each_line(&file, 0, size, |_, found| line(found)).context("read", &self.path)?;
        // The last line may lack its line end.
        let mut last = vec![0; usize::try_from(size - end).unwrap_or(usize::MAX)];
        files::read_exact_at(&file, &mut last, end).context("read", &self.path)?;
        line(&last);
        match failed {
            Some(error) => return Err(error),
            None if batch.is_empty() => {}
            None => take(&batch)?,
        }
        Ok(damaged)
    }

    /// Under the journal's lock, which others wait for meanwhile: nobody else is to use it yet.
    fn append(&self, at: u64, source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>) -> Result<()> {
        let mut lock = JournalLock::new(self.lock.clone());
        let mut journal = Journal::new(self.path.clone());
        // Makes the folder first.
        journal.create()?;
        let guard = lock.acquire(Patience::lasting(PATIENCE))?;
        let mut count = 0;
        self.read(0, u64::MAX, &mut |batch| {
            count += batch.len() as u64;
            Ok(())
        })?;
        if count != at {
            let source = std::io::Error::other("somebody else has written to it meanwhile");
            return Err(source).context("append to", &self.path);
        }
        source(&mut |batch| {
            let mut lines = batch.join(&b'\n');
            lines.push(b'\n');
            journal.append(&lines).map(drop)
        })?;
        let sync = journal.sync()?;
        drop(guard);
        sync.run()
    }
}

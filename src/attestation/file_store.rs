//! Attestations in files of a workspace.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::baseline::{self, Baseline};
use super::baseline_file::{BaselineFile, State};
use super::drift::Drift;
use super::record::{DriftStats, LogSummary, is_of_task, write_record};
use super::salvage;
use super::store::{Attestation, AttestationStore, BaselineUpdate, Prepared, count_attestations, warn_of};
use crate::clock::{Clock, iso_timestamp};
use crate::durability::{Durability, Sync};
use crate::error::{Error, Result};
use crate::gate::Guard;
use crate::journal::{Journal, JournalLock, PROCESS_FOLDER, Tail};
use crate::location::Location;
use crate::patience::Patience;
use crate::shared::Shared;
use crate::text::Text;

/// The attestations of one workspace, shared by all who use it in this process.
#[derive(Debug)]
pub struct FileAttestations {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
    state: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    lock: JournalLock,
    log: Journal,
    updates: Journal,
    baselines: BaselineFile,
    history: Tail<LogSummary>,
}

impl FileAttestations {
    /// The attestations of the workspace at `workspace`. Does no I/O.
    #[must_use]
    pub fn new(workspace: &Path, clock: Arc<dyn Clock>) -> Self {
        let folder = workspace.join(PROCESS_FOLDER);
        let log = folder.join("prompt_attestations.jsonl");
        let state = Mutex::new(Files {
            lock: JournalLock::new(folder.join(".prompt_attestations.lock")),
            history: Tail::new(log.clone()),
            log: Journal::new(log),
            updates: Journal::new(folder.join("prompt_baseline_updates.jsonl")),
            baselines: BaselineFile::new(folder.join("prompt_baselines.json")),
        });
        Self { folder, clock, state }
    }

    /// The one store of this process for the workspace.
    pub fn shared(workspace: &Path, clock: &Arc<dyn Clock>) -> Arc<Self> {
        static STORES: Shared<FileAttestations> = Shared::new();
        STORES.get(workspace, || Self::new(workspace, Arc::clone(clock)))
    }

    fn files(&self, patience: Patience) -> Result<MutexGuard<'_, Files>> {
        patience.lock(&self.state).ok_or_else(|| self.would_block())
    }

    fn files_for(&self, durability: Durability, patience: Patience) -> Result<MutexGuard<'_, Files>> {
        if durability.would_block(patience) { Err(self.would_block()) } else { self.files(patience) }
    }

    fn would_block(&self) -> Error {
        Error::JournalLocked { path: self.folder.clone(), waited: Duration::ZERO }
    }
}

impl AttestationStore for FileAttestations {
    fn location(&self) -> Location<'_> {
        Location::Path(&self.folder)
    }

    /// Makes the folder, an empty baselines file and an empty updates log where they are absent.
    fn initialize(&self, durability: Durability, patience: Patience) -> Result<()> {
        let mut files = self.files_for(durability, patience)?;
        let Files { lock, updates, baselines, .. } = &mut *files;
        let guard = lock.acquire(patience)?;
        updates.create()?;
        if matches!(baselines.refresh(guard.file(), patience)?, State::Missing) {
            baselines.write_all(guard.file(), std::iter::empty(), durability)?;
        }
        let syncs = match durability {
            Durability::PowerCut => syncs(updates, Some(baselines))?,
            Durability::Process => Vec::new(),
        };
        drop(guard);
        drop(files);
        run_all(syncs)
    }

    /// All prompts share one lock, one write to the log, one change of the baselines file and, if they are to survive a
    /// power cut, one sync of each, made after the lock is released.
    fn attest_through(
        &self,
        guard: Guard<'_>,
        prompts: &[&Prepared],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<Attestation>> {
        let gate = guard.as_gate()?;
        // Before anything is locked.
        for prompt in prompts {
            prompt.hash();
        }
        let mut files = self.files_for(durability, patience)?;
        let Files { lock, log, updates, baselines, .. } = &mut *files;
        let guard = lock.acquire(patience)?;
        let mut problem: Option<Arc<Error>> = None;
        let readable =
            match refresh(baselines, guard.file(), log.path(), updates.path(), durability, patience) {
                Ok(()) => true,
                Err(error @ Error::JournalLocked { .. }) => return Err(error),
                Err(error) => {
                    problem = Some(Arc::new(error));
                    false
                }
            };
        let now = iso_timestamp(self.clock.wall_ms());
        let mut lines = Vec::with_capacity(512 * prompts.len());
        let mut new: Vec<(Text, Baseline)> = Vec::new();
        let mut new_keys: HashMap<Text, usize> = HashMap::new();
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let key = baseline::key(&prompt.spec.task_id, &prompt.spec.phase);
            let known = match new_keys.get(&key) {
                Some(position) => Ok(Some(new[*position].1.clone())),
                None if readable => baselines.get(&key),
                None => Ok(None),
            };
            let mut can_be_first = readable;
            let known = known.unwrap_or_else(|error| {
                problem.get_or_insert_with(|| Arc::new(error));
                can_be_first = false;
                None
            });
            let drift = Drift::between(&prompt.spec, prompt.hash(), known.as_ref());
            write_record(&mut lines, &prompt.spec, prompt.hash(), known.as_ref(), &drift, &now);
            if known.is_none() && can_be_first {
                new_keys.insert(key.clone(), new.len());
                new.push((key, first_baseline(prompt, &now)));
            }
            answers.push(Attestation {
                current_hash: prompt.hash().clone(),
                baseline_hash: known.map(|baseline| baseline.hash),
                drift,
                error: None,
            });
        }
        if patience == Patience::Now && !new.is_empty() && baselines.is_much_to_write_for(&new) {
            return Err(self.would_block());
        }
        gate(&mut || {
            // The log comes first: after a crash in between, it tells what the baselines file lacks.
            if let Err(error) = log.append(&lines) {
                problem.get_or_insert_with(|| Arc::new(error));
            }
            if !new.is_empty()
                && let Err(error) = baselines.add(guard.file(), &new, durability)
            {
                problem.get_or_insert_with(|| Arc::new(error));
            }
            Ok(())
        })?;
        if durability == Durability::PowerCut {
            let syncs = syncs(log, (!new.is_empty()).then_some(baselines));
            drop(guard);
            drop(files);
            if let Err(error) = syncs.and_then(run_all) {
                problem.get_or_insert_with(|| Arc::new(error));
            }
        }
        count_attestations(prompts, &answers);
        if let Some(problem) = problem {
            warn_of(&problem);
            for answer in &mut answers {
                answer.error = Some(Arc::clone(&problem));
            }
        }
        Ok(answers)
    }

    fn reset(
        &self,
        task: &Text,
        phase: &Text,
        hash: &Text,
        update: BaselineUpdate,
        durability: Durability,
        patience: Patience,
    ) -> Result<()> {
        let mut files = self.files_for(durability, patience)?;
        let Files { lock, log, updates, baselines, .. } = &mut *files;
        let guard = lock.acquire(patience)?;
        refresh(baselines, guard.file(), log.path(), updates.path(), durability, patience)?;
        if patience == Patience::Now && baselines.is_much_to_replace() {
            return Err(self.would_block());
        }
        let key = baseline::key(task, phase);
        let version = baselines.get(&key)?.map_or(1, |old| old.version.saturating_add(1));
        let now = || iso_timestamp(self.clock.wall_ms()).into();
        let baseline = Baseline {
            hash: hash.clone(),
            version,
            updated_at: update.timestamp.unwrap_or_else(now),
            persona_hash: None,
            updated_by: update.updated_by,
            reason: update.reason,
            version_tag: update.version_tag,
        };
        let mut line = Vec::new();
        baseline.write_update(task, phase, &mut line);
        line.push(b'\n');
        updates.append(&line)?;
        baselines.replace(guard.file(), &[(key, baseline)], durability)?;
        let syncs = match durability {
            Durability::PowerCut => syncs(updates, Some(baselines))?,
            Durability::Process => Vec::new(),
        };
        drop(guard);
        drop(files);
        run_all(syncs)
    }

    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>> {
        let mut files = self.files(patience)?;
        let Files { history, log, .. } = &mut *files;
        let (summary, file) = history.catch_up_within(patience)?;
        let Some(file) = file else { return Ok(Vec::new()) };
        let mut lines = summary.tasks.read(file, task.as_wtf8()).map_err(|source| Error::Io {
            action: "read",
            path: log.path().to_owned(),
            source,
        })?;
        lines.retain(|line| is_of_task(line, task));
        Ok(lines)
    }

    fn stats(&self, patience: Patience) -> Result<DriftStats> {
        let mut files = self.files(patience)?;
        Ok(files.history.catch_up_within(patience)?.0.stats.clone())
    }
}

/// What is to be synced once the lock is released.
fn syncs(journal: &mut Journal, baselines: Option<&mut BaselineFile>) -> Result<Vec<Sync>> {
    let journal = journal.sync()?;
    Ok(std::iter::once(journal).chain(baselines.and_then(|file| file.sync())).collect())
}

fn run_all(syncs: Vec<Sync>) -> Result<()> {
    syncs.into_iter().try_for_each(Sync::run)
}

/// Brings what is known of the baselines file up to date; repairs it if it is damaged.
fn refresh(
    baselines: &mut BaselineFile,
    lock_file: &File,
    log: &Path,
    updates: &Path,
    durability: Durability,
    patience: Patience,
) -> Result<()> {
    let State::Damaged(content) = baselines.refresh(lock_file, patience)? else { return Ok(()) };
    // The logs may be long.
    if patience == Patience::Now {
        return Err(Error::JournalLocked { path: baselines.path().to_owned(), waited: Duration::ZERO });
    }
    let mut saved = salvage::whole_entries(&content);
    let whole = saved.len();
    for (key, baseline) in salvage::from_logs(log, updates) {
        saved.entry(key).or_insert(baseline);
    }
    salvage::keep_aside(baselines.path(), whole, saved.len() - whole, durability)?;
    baselines.write_all(lock_file, saved.iter(), durability)
}

fn first_baseline(prompt: &Prepared, now: &str) -> Baseline {
    Baseline {
        hash: prompt.hash().as_str().into(),
        version: 1,
        updated_at: now.into(),
        persona_hash: prompt.spec.persona_hash.non_empty().cloned(),
        updated_by: None,
        reason: None,
        version_tag: None,
    }
}

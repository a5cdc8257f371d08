//! Totals of a workspace, counted once and kept over restarts.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::series::{FILES, Totals};
use super::state::{Loaded, State, StateFile};
use super::{Source, StoreTotals, TELEMETRY_FOLDER};
use crate::error::{Error, IoContext, Result};
use crate::lock::os_lock::OsLock;

/// Where counting begins when nothing was counted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// With all that the files hold.
    #[default]
    Beginning,
    /// With what comes from now on.
    Now,
}

/// What the store of leases says of itself.
#[derive(Debug, Clone, Copy)]
pub enum Store {
    /// These totals.
    Totals(StoreTotals),
    /// There is no database yet.
    Absent,
    /// Nothing: it can't be read.
    Unknown,
}

/// What a look at the files found.
#[derive(Debug)]
pub struct Polled {
    /// What is unread of each file, in bytes, in the order of [`Source::ALL`].
    pub unread_bytes: [u64; 3],
    /// What could not be read, or not be written down.
    pub problems: Vec<Error>,
}

/// Counts what happens in a workspace.
#[derive(Debug)]
pub struct Exporter {
    workspace: PathBuf,
    file: StateFile,
    /// Held by the one exporter of a workspace; none if this one only looks.
    lock: Option<OsLock>,
    state: State,
    unread_bytes: [u64; 3],
}

impl Exporter {
    /// Becomes the exporter of the workspace; [`Error::ExporterRunning`] if there is one.
    ///
    /// What it has counted survives its death at any moment. A power cut may take the last seconds, of the totals and
    /// of the files alike.
    pub fn open(workspace: &Path, start: Start) -> Result<Self> {
        must_be_folder(workspace)?;
        let path = workspace.join(TELEMETRY_FOLDER).join(".exporter.lock");
        let Some(lock) = OsLock::try_acquire(&path)? else {
            let noted = std::fs::read_to_string(&path).unwrap_or_default();
            let process = if noted.is_empty() { "(unknown)".to_owned() } else { noted };
            return Err(Error::ExporterRunning { workspace: workspace.to_owned(), process });
        };
        note_process(&lock).context("write", &path)?;
        let file = state_file(workspace);
        file.tidy();
        let state = match file.load()? {
            Some(Loaded::State(state)) => *state,
            Some(Loaded::Damaged) => {
                file.put_aside()?;
                State { start: Start::Now, was_scraped: true, ..State::default() }
            }
            None => State { start, ..State::default() },
        };
        Ok(Self { workspace: workspace.to_owned(), file, lock: Some(lock), state, unread_bytes: [0; 3] })
    }

    /// Knows what the exporter of the workspace has counted, and can count on, but writes nothing down and shows all.
    pub fn look(workspace: &Path, start: Start) -> Result<Self> {
        must_be_folder(workspace)?;
        let file = state_file(workspace);
        let state = match file.load()? {
            Some(Loaded::State(state)) => State { was_scraped: true, ..*state },
            Some(Loaded::Damaged) | None => State { start, was_scraped: true, ..State::default() },
        };
        Ok(Self { workspace: workspace.to_owned(), file, lock: None, state, unread_bytes: [0; 3] })
    }

    /// Counts what is new, and writes down what was counted.
    pub fn poll(&mut self, store: Store) -> Polled {
        let mut problems = Vec::new();
        let state = &mut self.state;
        for (source, position) in Source::ALL.into_iter().zip(&mut state.positions) {
            let path = self.workspace.join(source.path());
            match position.read_on(source, &path, state.start, &mut state.totals) {
                Ok(unread) => self.unread_bytes[source as usize] = unread,
                Err(error) => problems.push(error),
            }
        }
        match store {
            Store::Totals(now) => state.store.take(&now, state.start, &mut state.totals),
            Store::Absent => state.store.take_absence(),
            Store::Unknown => {}
        }
        problems.extend(self.save().err());
        Polled { unread_bytes: self.unread_bytes, problems }
    }

    /// What was counted.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.state.totals
    }

    /// What is to be shown: what was counted, once [`Self::was_scraped`] was called; nothing before.
    ///
    /// Prometheus takes the first value that it sees of a series for where that begins, and would never see a rise up to
    /// it.
    #[must_use]
    pub fn shown(&self) -> Totals {
        if self.state.was_scraped { self.state.totals.clone() } else { Totals::default() }
    }

    /// Takes note that what is shown was seen.
    pub fn was_scraped(&mut self) -> Result<()> {
        if self.state.was_scraped {
            return Ok(());
        }
        self.state.was_scraped = true;
        self.save()
    }

    /// From now on [`Self::take_differences`] gives what is counted from here.
    pub fn begin_differences(&mut self) {
        let totals = &self.state.totals;
        self.state.sent.get_or_insert_with(|| totals.clone());
    }

    /// What was counted since this was last called, in this run or one before. It is never given twice, even if this
    /// process is killed before it is used: then it is lost.
    pub fn take_differences(&mut self) -> Result<Totals> {
        let totals = self.state.totals.clone();
        let before = self.state.sent.replace(totals);
        if let Err(error) = self.save() {
            self.state.sent = before;
            return Err(error);
        }
        Ok(self.state.totals.since(&before.unwrap_or_default()))
    }

    /// How often each journal was found cut or overwritten, in the order of [`Source::ALL`].
    #[must_use]
    pub fn truncations(&self) -> [u64; 3] {
        self.state.positions.each_ref().map(super::follower::Position::truncations)
    }

    fn save(&mut self) -> Result<()> {
        match &self.lock {
            Some(lock) if lock.is_current()? => self.file.save(&self.state),
            Some(lock) => Err(Error::Io {
                action: "keep",
                path: lock.path().to_owned(),
                source: std::io::Error::other("it was removed or replaced; start the exporter again"),
            }),
            None => Ok(()),
        }
    }
}

/// The name of a journal, as messages and labels say it.
#[must_use]
pub fn name_of(source: Source) -> &'static str {
    FILES[source as usize]
}

fn state_file(workspace: &Path) -> StateFile {
    StateFile::new(workspace.join(TELEMETRY_FOLDER).join(".exporter.json"))
}

fn must_be_folder(workspace: &Path) -> Result<()> {
    let found = std::fs::metadata(workspace).context("open the workspace", workspace)?;
    if found.is_dir() {
        return Ok(());
    }
    Err(std::io::Error::from(std::io::ErrorKind::NotADirectory)).context("open the workspace", workspace)
}

/// Leaves the id of this process in the lock file, for those who find it locked.
fn note_process(lock: &OsLock) -> std::io::Result<()> {
    let mut file = lock.file();
    file.set_len(0)?;
    file.write_all(std::process::id().to_string().as_bytes())
}

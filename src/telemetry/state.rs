//! What an exporter knows, and where that is kept between two runs.
//!
//! How far each file was read and what was counted are in one file that is replaced in one step, so that whoever is
//! killed counts nothing twice and leaves nothing out.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Start;
use super::follower::Position;
use super::series::Totals;
use super::store_totals::StoreState;
use crate::error::{IoContext, Result};
use crate::gate;
use crate::journal::writer::damaged_path;
use crate::log;
use crate::replace::replace_through;

/// The form in which the state is written.
const VERSION: u32 = 1;

/// What an exporter knows.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Where counting began.
    pub start: Start,
    /// Whether the totals were ever asked for.
    pub was_scraped: bool,
    /// How far the journals were read, in the order of [`Source::ALL`](super::Source::ALL).
    pub positions: [Position; 3],
    /// What was counted.
    pub totals: Totals,
    /// What the store of leases said.
    pub store: StoreState,
    /// What was counted when the differences were last given out; none before that.
    pub sent: Option<Totals>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    start: Start,
    was_scraped: bool,
    positions: [Position; 3],
    totals: BTreeMap<String, f64>,
    store: StoreState,
    sent: Option<BTreeMap<String, f64>>,
}

/// The file of a state.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    written: Vec<u8>,
}

impl StateFile {
    /// The file at `path`. Does no I/O.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, written: Vec::new() }
    }

    /// Reads the state; none if there is no file. Of a damaged one nothing is known.
    pub fn load(&self) -> Result<Option<Loaded>> {
        let bytes = match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.context("read", &self.path)?,
        };
        let written = serde_json::from_slice::<Written>(&bytes).ok().filter(|state| state.version == VERSION);
        Ok(Some(written.map_or(Loaded::Damaged, |state| Loaded::State(Box::new(state.into())))))
    }

    /// Removes what those left who were killed while they wrote it. Only for the one who may write it.
    pub fn tidy(&self) {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return };
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let prefix = format!("{}.", name.to_string_lossy());
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_temporary = Path::new(&name).extension().is_some_and(|extension| extension == "tmp");
            if is_temporary && name.to_string_lossy().starts_with(&prefix) {
                // It is in nobody's way.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Puts a damaged file aside.
    pub fn put_aside(&self) -> Result<()> {
        let aside = damaged_path(&self.path);
        std::fs::rename(&self.path, &aside).context("put aside", &self.path)?;
        log::warning(
            "The exporter's state could not be read and was put aside; counting begins anew, from now on",
            &[("file", &self.path.to_string_lossy()), ("kept_as", &aside.to_string_lossy())],
        );
        Ok(())
    }

    /// Writes the state, if it is not what was written last.
    pub fn save(&mut self, state: &State) -> Result<()> {
        let written = Written {
            version: VERSION,
            start: state.start,
            was_scraped: state.was_scraped,
            positions: state.positions.clone(),
            totals: state.totals.to_map(),
            store: state.store.clone(),
            sent: state.sent.as_ref().map(Totals::to_map),
        };
        let bytes = serde_json::to_vec(&written).map_err(io::Error::from).context("write", &self.path)?;
        if bytes != self.written {
            replace_through(&gate::open, &self.path, &bytes)?;
            self.written = bytes;
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is in a state's file.
#[derive(Debug)]
pub enum Loaded {
    /// A state.
    State(Box<State>),
    /// Something else.
    Damaged,
}

impl From<Written> for State {
    fn from(written: Written) -> Self {
        Self {
            start: written.start,
            was_scraped: written.was_scraped,
            positions: written.positions,
            totals: Totals::from_map(&written.totals),
            store: written.store,
            sent: written.sent.as_ref().map(Totals::from_map),
        }
    }
}

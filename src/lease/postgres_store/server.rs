//! What the stores of this process share that keep their leases in the same place.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use super::book::Book;
use super::tally::Tally;
use super::waiting::WaitingRoom;
use crate::clock::Clock;
use crate::digest::hex_digest;
use crate::error::{Error, Result};
use crate::lease::patience::{Patience, Wait};
use crate::lease::presence::Presence;
use crate::postgres::{self, Attempt, COMMON, Failure, Upgrade};
use crate::shared::Shared;

const UPGRADE: Upgrade<'static> = Upgrade {
    part: "leases",
    version: 1,
    sql: &[
        COMMON,
        include_str!("sql/tables.sql"),
        include_str!("sql/common.sql"),
        include_str!("sql/changes.sql"),
        include_str!("sql/claims.sql"),
        include_str!("sql/administration.sql"),
        include_str!("sql/import.sql"),
    ],
};

pub(super) struct Server {
    /// What is shared with the other stores of the schema.
    database: Arc<postgres::Server>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) book: Book,
    pub(super) room: Arc<WaitingRoom>,
    pub(super) tally: Tally,
    /// When a call failed last because no answer came.
    silent_at: Mutex<Option<Instant>>,
    presence: Mutex<Weak<Presence>>,
    /// In whose folder processes announce themselves.
    beside: PathBuf,
}

static SERVERS: Shared<Server> = Shared::new();

impl Deref for Server {
    type Target = postgres::Server;

    fn deref(&self) -> &postgres::Server {
        &self.database
    }
}

impl Server {
    /// Checks the URL; connects to nothing.
    pub(super) fn open(url: &str, beside: &Path, clock: &Arc<dyn Clock>) -> Result<Arc<Self>> {
        let database = postgres::Server::at(url, &UPGRADE)?;
        let name = hex_digest(format!("{url}\0{}", beside.display()).as_bytes());
        Ok(SERVERS.get(Path::new(&name), || Self {
            database,
            clock: Arc::clone(clock),
            book: Book::default(),
            room: WaitingRoom::new(),
            tally: Tally::new(),
            silent_at: Mutex::default(),
            presence: Mutex::default(),
            beside: beside.to_owned(),
        }))
    }

    /// The server of this process that is in use and has this address, as it is shown.
    pub(super) fn in_use_at(address: &str) -> Option<Arc<Self>> {
        SERVERS.find(|server| server.address().to_string() == address)
    }

    /// Whether the schema was there when it was last needed.
    pub(super) fn is_ready(&self) -> bool {
        self.database.is_ready(&UPGRADE)
    }

    /// Whether somebody has made the schema; makes none.
    pub(super) fn is_made(&self, deadline: Instant) -> Result<bool> {
        self.database.is_made(&UPGRADE, deadline)
    }

    /// The schema's name, as it is part of a key's lock.
    pub(super) fn schema(&self) -> &str {
        &self.address().schema
    }

    /// Announces this process to the others of the machine, unless it is announced.
    pub(super) fn announce(&self) -> Result<Arc<Presence>> {
        let mut known = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(presence) = known.upgrade() {
            return Ok(presence);
        }
        let presence = Arc::new(Presence::announce(&self.beside)?);
        *known = Arc::downgrade(&presence);
        Ok(presence)
    }

    /// Whether a process of this boot is known to be dead.
    pub(super) fn is_dead(&self, process: &str) -> bool {
        crate::lease::presence::is_dead(&self.beside, process)
    }

    /// Makes a call of a store: as often as it takes, for as long as its caller waits.
    pub(super) fn call<T>(
        &self,
        wait: Wait<'_>,
        attempt: impl FnMut(Attempt<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        // Every answer comes over the network.
        let Patience::Until(_) = wait.patience() else { return Err(Error::DatabaseLocked) };
        let deadline = || match wait.patience() {
            Patience::Until(deadline) => deadline,
            Patience::Now => Instant::now(),
        };
        let answer = self.repeat(&UPGRADE, deadline, || wait.check_open(), attempt);
        if matches!(answer, Err(Error::ServerUnreachable { .. })) {
            *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        answer
    }

    /// Whether a call has failed since then because no answer came.
    pub(super) fn is_silent_since(&self, moment: Instant) -> bool {
        self.silent_at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|silent| silent > moment)
    }
}

//! What the stores of this process share that keep their leases in the same place.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use super::book::Book;
use super::tally::Tally;
use super::waiting::WaitingRoom;
use crate::clock::Clock;
use crate::digest::hex_digest;
use crate::error::{Error, Result};
use crate::lease::patience::{Patience, Wait};
use crate::lease::presence::Presence;
use crate::postgres::{
    Address, Attempt, Failure, Parameter, Pool, Session, Upgrade, quoted, upgrade, version,
};
use crate::shared::Shared;

const UPGRADE: Upgrade<'static> = Upgrade {
    part: "leases",
    version: 1,
    sql: &[
        include_str!("sql/tables.sql"),
        include_str!("sql/common.sql"),
        include_str!("sql/changes.sql"),
        include_str!("sql/claims.sql"),
        include_str!("sql/administration.sql"),
    ],
};

pub(super) struct Server {
    pub(super) pool: Pool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) book: Book,
    pub(super) room: Arc<WaitingRoom>,
    pub(super) tally: Tally,
    /// Whether the schema is known to be there.
    is_ready: AtomicBool,
    /// When a call failed last because no answer came.
    silent_at: Mutex<Option<Instant>>,
    presence: Mutex<Weak<Presence>>,
    /// In whose folder processes announce themselves.
    beside: PathBuf,
    schema: String,
}

static SERVERS: Shared<Server> = Shared::new();

impl Server {
    /// Checks the URL; connects to nothing.
    pub(super) fn open(url: &str, beside: &Path, clock: &Arc<dyn Clock>) -> Result<Arc<Self>> {
        let address = Address::parse(url)?;
        let name = hex_digest(format!("{url}\0{}", beside.display()).as_bytes());
        let server = SERVERS.try_get(Path::new(&name), || {
            let schema = quoted(&address.schema);
            let room = WaitingRoom::new();
            Ok::<_, Error>(Self {
                pool: Pool::new(address)?,
                clock: Arc::clone(clock),
                book: Book::default(),
                room,
                tally: Tally::new(),
                is_ready: AtomicBool::new(false),
                silent_at: Mutex::default(),
                presence: Mutex::default(),
                beside: beside.to_owned(),
                schema,
            })
        })?;
        // Each store looks for itself: somebody may have dropped the schema since.
        server.is_ready.store(false, Ordering::Release);
        Ok(server)
    }

    /// The server of this process that is in use and has this address, as it is shown.
    pub(super) fn in_use_at(address: &str) -> Option<Arc<Self>> {
        SERVERS.find(|server| server.pool.address().to_string() == address)
    }

    /// Whether the schema was there when it was last needed.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Whether somebody has made the schema; makes none.
    pub(super) fn is_made(&self, deadline: Instant) -> Result<bool> {
        self.pool.repeat(
            || deadline,
            || Ok(()),
            |attempt| Ok(version(attempt.session, self.schema(), UPGRADE.part, attempt.deadline)? > 0),
        )
    }

    /// Makes or upgrades the schema, unless it is known to be there.
    pub(super) fn make_ready(
        &self,
        deadline: impl Fn() -> Instant,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        if self.is_ready() {
            return Ok(());
        }
        let schema = self.schema();
        self.pool.repeat(deadline, check, |attempt| {
            upgrade(attempt.session, schema, &UPGRADE, attempt.deadline)
        })?;
        self.is_ready.store(true, Ordering::Release);
        Ok(())
    }

    /// The schema's name, as it is part of a key's lock.
    pub(super) fn schema(&self) -> &str {
        &self.pool.address().schema
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
        // What has no time left must not be sent: nobody would wait for what it does.
        if deadline() <= Instant::now() {
            wait.check_open()?;
            let failure = Failure::Busy("the calls before it took all of its time".to_owned());
            return Err(failure.at(self.pool.address(), Duration::ZERO));
        }
        let answer = self
            .make_ready(deadline, || wait.check_open())
            .and_then(|()| self.pool.repeat(deadline, || wait.check_open(), attempt));
        if matches!(answer, Err(Error::ServerUnreachable { .. })) {
            *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        answer
    }

    /// Whether a call has failed since then because no answer came.
    pub(super) fn is_silent_since(&self, moment: Instant) -> bool {
        self.silent_at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|silent| silent > moment)
    }

    /// Calls a function of the schema.
    pub(super) fn function(
        &self,
        session: &mut Session,
        name: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let numbers: Vec<String> = (1..=parameters.len()).map(|number| format!("${number}")).collect();
        let sql = format!("SELECT * FROM {}.{name}({})", self.schema, numbers.join(","));
        session.query(&sql, parameters, deadline)
    }

    /// Runs a statement in which `@schema@` stands for the schema.
    pub(super) fn statement(
        &self,
        session: &mut Session,
        sql: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        session.query(&sql.replace("@schema@", &self.schema), parameters, deadline)
    }
}

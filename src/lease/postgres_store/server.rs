//! What the stores of this process share that keep their leases in the same place.

use std::path::{Path, PathBuf};
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
use crate::postgres::{Address, Attempt, Failure, Parameter, Pool, Session, Upgrade, quoted, upgrade};
use crate::shared::Shared;

/// How long opening waits for the server.
const OPENING: Duration = Duration::from_secs(10);

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
    presence: Mutex<Weak<Presence>>,
    /// In whose folder processes announce themselves.
    beside: PathBuf,
    schema: String,
}

static SERVERS: Shared<Server> = Shared::new();

impl Server {
    /// Connects, and makes the schema where it is absent.
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
                presence: Mutex::default(),
                beside: beside.to_owned(),
                schema,
            })
        })?;
        let deadline = Instant::now() + OPENING;
        server.pool.repeat(
            || deadline,
            || Ok(()),
            |attempt| upgrade(attempt.session, &server.pool.address().schema, &UPGRADE, attempt.deadline),
        )?;
        Ok(server)
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
        self.pool.repeat(deadline, || wait.check_open(), attempt)
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

//! A schema on a server, as the stores of this process share it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Address, Attempt, Failure, Parameter, Pool, Row, Session, Upgrade, quoted, upgrade, version};
use crate::digest::hex_digest;
use crate::error::{Error, Result};
use crate::patience::Patience;
use crate::shared::Shared;

/// A schema on a server, and the connections to it.
pub(crate) struct Server {
    pub(crate) pool: Pool,
    /// As SQL has it.
    schema: String,
    /// The parts of the schema that are known to be there.
    ready: Mutex<Vec<&'static str>>,
}

static SERVERS: Shared<Server> = Shared::new();

impl Server {
    /// The one of this process for the URL, for a store that needs this part of the schema. Connects to nothing.
    pub(crate) fn at(url: &str, part: &Upgrade<'static>) -> Result<Arc<Self>> {
        let address = Address::parse(url)?;
        // Not by the URL itself, which may hold a password.
        let server = SERVERS.try_get(Path::new(&hex_digest(url.as_bytes())), || {
            let schema = quoted(&address.schema);
            Ok::<_, Error>(Self { pool: Pool::new(address), schema, ready: Mutex::default() })
        })?;
        // Each store looks for itself: somebody may have dropped the schema since.
        server.ready().retain(|ready| *ready != part.part);
        Ok(server)
    }

    pub(crate) fn address(&self) -> &Address {
        self.pool.address()
    }

    /// Makes a call of a store: as often as it takes, for as long as its caller waits.
    pub(crate) fn call<T>(
        &self,
        part: &Upgrade<'static>,
        patience: Patience,
        attempt: impl FnMut(Attempt<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        // Every answer comes over the network.
        let Patience::Until(deadline) = patience else { return Err(Error::DatabaseLocked) };
        self.repeat(part, || deadline, || Ok(()), attempt)
    }

    /// [`Pool::repeat`], with a part of the schema that is made or upgraded first, unless it is known to be there.
    pub(crate) fn repeat<T>(
        &self,
        part: &Upgrade<'static>,
        deadline: impl Fn() -> Instant,
        check: impl Fn() -> Result<()>,
        attempt: impl FnMut(Attempt<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        // What has no time left must not be sent: nobody would wait for what it does.
        if deadline() <= Instant::now() {
            check()?;
            let failure = Failure::Busy("the calls before it took all of its time".to_owned());
            return Err(failure.at(self.address(), Duration::ZERO));
        }
        if !self.is_ready(part) {
            let schema = &self.address().schema;
            self.pool.repeat(&deadline, &check, |attempt| {
                upgrade(attempt.session, schema, part, attempt.deadline)
            })?;
            self.ready().push(part.part);
        }
        self.pool.repeat(deadline, check, attempt)
    }

    /// Whether a part of the schema was there when it was last needed.
    pub(crate) fn is_ready(&self, part: &Upgrade<'static>) -> bool {
        self.ready().contains(&part.part)
    }

    /// Whether somebody has made a part of the schema; makes none.
    pub(crate) fn is_made(&self, part: &Upgrade<'static>, deadline: Instant) -> Result<bool> {
        self.pool.repeat(
            || deadline,
            || Ok(()),
            |attempt| {
                let schema = &self.address().schema;
                Ok(version(attempt.session, schema, part.part, attempt.deadline)? > 0)
            },
        )
    }

    /// Calls a function of the schema.
    pub(crate) fn function(
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
    pub(crate) fn statement(
        &self,
        session: &mut Session,
        sql: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        session.query(&sql.replace("@schema@", &self.schema), parameters, deadline)
    }

    fn ready(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

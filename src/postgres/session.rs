//! One connection, driven by the thread that uses it.

use std::time::{Duration, Instant};

use driftlock_postgres::client::{self, Endpoint, Parameter, Row};

use super::failure::Failure;

/// A connection to the server.
pub(crate) struct Session {
    connection: client::Session,
    is_broken: bool,
}

impl Session {
    pub(super) fn connect(endpoint: &Endpoint, deadline: Instant) -> Result<Self, Failure> {
        let connection =
            client::Session::connect(endpoint, left(deadline)).map_err(Failure::of_connecting)?;
        Ok(Self { connection, is_broken: false })
    }

    /// Whether the connection can't be used any more.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// Runs one statement, by one exchange of messages and without leaving anything prepared.
    pub(crate) fn query(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Failure> {
        let result = self.connection.query(sql, parameters, left(deadline));
        self.noted(result.map_err(Failure::of))
    }

    /// Runs statements without parameters, in one exchange of messages.
    pub(crate) fn batch(&mut self, sql: &str, deadline: Instant) -> Result<(), Failure> {
        let result = self.connection.batch(sql, left(deadline));
        self.noted(result.map_err(Failure::of))
    }

    /// Waits until the server notifies this connection of something, for so long; whether it did.
    pub(crate) fn await_notification(&mut self, timeout: Duration) -> Result<bool, Failure> {
        let result = self.connection.await_notification(timeout);
        self.noted(result.map_err(Failure::of))
    }

    fn noted<T>(&mut self, result: Result<T, Failure>) -> Result<T, Failure> {
        self.is_broken |= matches!(result, Err(Failure::Unknown(_) | Failure::Unreachable(_)));
        result
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

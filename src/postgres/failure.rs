//! Why a request failed, sorted by what can be done about it.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::address::Address;
use crate::error::Error;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server said so, and has done nothing; another try may work.
    Busy(String),
    /// There was no connection, so nothing was done.
    Unreachable(String),
    /// The connection ended, or the time was over, before the answer came: it may have been done or not.
    Unknown(String),
    /// Trying again doesn't help. The text names the cause and, where there is one, the next step.
    Refused(String),
}

impl Failure {
    /// The error for callers, who need to know which server it was, and for how long it was tried.
    pub(crate) fn at(self, address: &Address, waited: Duration) -> Error {
        let server = address.to_string();
        match self {
            Self::Refused(message) => Error::Server { server, message },
            Self::Busy(cause) | Self::Unreachable(cause) | Self::Unknown(cause) => {
                Error::ServerUnreachable { server, cause, waited }
            }
        }
    }

    /// What it means while connecting: nothing can have been done.
    pub(super) fn of_connecting(error: &tokio_postgres::Error) -> Self {
        match Self::from_driver(error) {
            // Without the word there would be no next step.
            Self::Unknown(cause) if cause.contains("does not support TLS") => Self::Refused(format!(
                "{cause}; switch TLS on there (ssl = on), or use sslmode=disable in a network that nobody listens in"
            )),
            Self::Unknown(cause) if cause.contains("certificate") => Self::Refused(format!(
                "{cause}; name the certificates to trust by sslrootcert, and the server as its certificate does"
            )),
            Self::Unknown(cause) => Self::Unreachable(cause),
            failure => failure,
        }
    }

    pub(super) fn from_driver(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::from_answer(answer),
            // Those name what went wrong on the way, never what was sent.
            None => Self::Unknown(match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            }),
        }
    }

    fn from_answer(answer: &DbError) -> Self {
        let (state, message) = (answer.code(), answer.message());
        // Those of classes 08 and 57P and 58 end the connection: what was under way may have been done.
        if state.code().starts_with("08")
            || *state == SqlState::ADMIN_SHUTDOWN
            || *state == SqlState::CRASH_SHUTDOWN
        {
            return Self::Unknown(message.to_owned());
        }
        if BUSY.contains(state) {
            return Self::Busy(message.to_owned());
        }
        let hint = answer.hint().or_else(|| advice(state));
        Self::Refused(match hint {
            Some(hint) => format!("{message}; {hint}"),
            None => format!("{message} (SQLSTATE {})", state.code()),
        })
    }
}

/// What passes by itself, and has undone the transaction.
const BUSY: [SqlState; 7] = [
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::LOCK_NOT_AVAILABLE,
    SqlState::QUERY_CANCELED,
    SqlState::CANNOT_CONNECT_NOW,
    SqlState::TOO_MANY_CONNECTIONS,
    // A pooler's or a standby's, which is about to become the primary.
    SqlState::READ_ONLY_SQL_TRANSACTION,
];

fn advice(state: &SqlState) -> Option<&'static str> {
    Some(match *state {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "check user and password, and pg_hba.conf"
        }
        SqlState::INVALID_CATALOG_NAME => "create the database, or correct its name",
        SqlState::INSUFFICIENT_PRIVILEGE => "give the role the right to use the schema, or to create it",
        SqlState::DISK_FULL => "free some space on the server and try again",
        _ => return None,
    })
}

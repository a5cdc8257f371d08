//! Why a request failed, sorted by what can be done about it.

use std::time::Duration;

use driftlock_postgres::client::Problem;

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
    pub(super) fn of_connecting(problem: Problem) -> Self {
        match Self::of(problem) {
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

    /// What a request's problem means.
    pub(super) fn of(problem: Problem) -> Self {
        match problem {
            Problem::Connection(cause) => Self::Unknown(cause),
            Problem::Unusable(cause) => Self::Refused(cause),
            // Those of classes 08 and 57P end the connection: what was under way may have been done.
            Problem::Server { state, message, .. }
                if state.starts_with("08") || [ADMIN_SHUTDOWN, CRASH_SHUTDOWN].contains(&&*state) =>
            {
                Self::Unknown(message)
            }
            Problem::Server { state, message, .. } if BUSY.contains(&&*state) => Self::Busy(message),
            Problem::Server { state, message, hint } => {
                Self::Refused(match hint.as_deref().or_else(|| advice(&state)) {
                    Some(hint) => format!("{message}; {hint}"),
                    None => format!("{message} (SQLSTATE {state})"),
                })
            }
        }
    }
}

// See "PostgreSQL Error Codes" in its manual.
const ADMIN_SHUTDOWN: &str = "57P01";
const CRASH_SHUTDOWN: &str = "57P02";

/// What passes by itself, and has undone the transaction.
const BUSY: [&str; 7] = [
    // serialization_failure, deadlock_detected, lock_not_available, query_canceled
    "40001", "40P01", "55P03", "57014", // cannot_connect_now, too_many_connections
    "57P03", "53300",
    // read_only_sql_transaction: a pooler's or a standby's, which is about to become the primary
    "25006",
];

fn advice(state: &str) -> Option<&'static str> {
    Some(match state {
        // invalid_password, invalid_authorization_specification
        "28P01" | "28000" => "check user and password, and pg_hba.conf",
        // invalid_catalog_name
        "3D000" => "create the database, or correct its name",
        // insufficient_privilege
        "42501" => "give the role the right to use the schema, or to create it",
        // disk_full
        "53100" => "free some space on the server and try again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do_in_the_server_s_words_if_it_has_some() {
        let refused = |state: &str, hint: Option<&str>| {
            let problem = Problem::Server {
                state: state.to_owned(),
                message: "no".to_owned(),
                hint: hint.map(str::to_owned),
            };
            match Failure::of(problem) {
                Failure::Refused(message) => message,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused("53100", None), "no; free some space on the server and try again");
        assert_eq!(refused("53100", Some("Look.")), "no; Look.");
        assert_eq!(refused("22000", None), "no (SQLSTATE 22000)");
    }
}

//! Where a store is: a server, a database and a schema there.

use std::fmt;
use std::time::Instant;

use driftlock_postgres::client::{Endpoint, Problem};
use driftlock_postgres::percent::decode;

use super::driver;
use super::failure::Failure;
use super::session::Session;
use crate::error::{Error, Result};

/// The longest name that PostgreSQL keeps as it is, in bytes.
const LONGEST_NAME: usize = 63;

const EXPECTED: &str = "a URL such as postgres://user:password@host:5432/database?schema=driftlock";

/// A server, a database and a schema there. Shown without user and password.
pub(crate) struct Address {
    endpoint: Endpoint,
    /// The schema, unquoted.
    pub(crate) schema: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database?option=value&…`.
    ///
    /// `schema` is an option of its own (default `driftlock`); the others are the driver's.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(invalid("something else"));
        }
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut others) = ("driftlock".to_owned(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.strip_prefix("schema=") {
                Some(name) => {
                    schema = decode(name).ok_or_else(|| invalid("an option with a broken % escape"))?;
                }
                None => others.push(pair),
            }
        }
        if schema.is_empty() || schema.len() > LONGEST_NAME || schema.contains('\0') {
            return Err(invalid("a schema without a name, or with one of over 63 bytes"));
        }
        let endpoint = Endpoint::open(driver::table()?, &format!("{place}?{}", others.join("&")));
        match endpoint {
            Ok(endpoint) => Ok(Self { endpoint, schema }),
            Err(Problem::Unusable(actual)) => Err(invalid(&actual)),
            Err(problem) => Err(Error::Defect(format!("the PostgreSQL driver reads no URL: {problem:?}"))),
        }
    }

    /// Connects, within the address's own time limit and `deadline`.
    pub(super) fn connect(&self, deadline: Instant) -> Result<Session, Failure> {
        Session::connect(&self.endpoint, deadline)
    }
}

/// Host, port, database and schema: what is shown in messages.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?schema={}", self.endpoint.name(), self.schema)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn invalid(actual: &str) -> Error {
    Error::InvalidArgument { argument: "store", expected: EXPECTED, actual: actual.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_user_and_password() {
        let address =
            Address::parse("postgres://ada:s3cret%40@db.example:6432/agents?schema=of%20ours").unwrap();
        assert_eq!(address.to_string(), "postgres://db.example:6432/agents?schema=of ours");
        assert_eq!(format!("{address:?}"), address.to_string());
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "mysql://ada:s3cret@h/d",
            "postgres://ada:s3cret@h:port/d",
            "postgres://ada:s3cret@h/d?schema=",
            "postgres://ada:s3cret@h/d?schema=%zz",
            "postgres://ada:s3cret@h/d?sslmode=maybe",
            "postgres:///d",
            "host=h password=s3cret",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.code(), "INVALID_ARGUMENT");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

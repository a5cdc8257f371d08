//! Where the server is, from a URL.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::{Trust, Verification};
use crate::error::{Error, Result};

/// How long one try to connect lasts at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how much silence the system asks whether the other side is still there, how often, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// The longest name that PostgreSQL keeps as it is, in bytes.
const LONGEST_NAME: usize = 63;

const EXPECTED: &str = "a URL such as postgres://user:password@host:5432/database?schema=driftlock";

/// A server, a database and a schema there. Shown without user and password.
#[derive(Clone)]
pub(crate) struct Address {
    pub(super) driver: Config,
    pub(super) trust: Trust,
    /// The schema, unquoted.
    pub(crate) schema: String,
}

impl Address {
    /// Reads `postgres://user:password@host:port/database?option=value&…`.
    ///
    /// Options of our own are `schema` (default `driftlock`), `sslmode` and `sslrootcert`; the others are tokio-postgres's.
    /// Without a password in the URL that of the environment's `PGPASSWORD` counts.
    ///
    /// `sslmode` is `verify-full`, unless given, for hosts of the network, and `prefer` for this machine's: `require` and
    /// `prefer` keep listeners out and nobody who pretends to be the server.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let Some(rest) = rest else { return Err(invalid("something else")) };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut schema, mut mode, mut roots, mut others) = ("driftlock".to_owned(), None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || decode(value).ok_or_else(|| invalid("an option with a broken % escape"));
            match name {
                "schema" => schema = decoded()?,
                "sslmode" => mode = Some(decoded()?),
                "sslrootcert" => roots = Some(PathBuf::from(decoded()?)),
                _ => others.push(pair),
            }
        }
        if schema.is_empty() || schema.len() > LONGEST_NAME || schema.contains('\0') {
            return Err(invalid("a schema without a name, or with one of over 63 bytes"));
        }
        // The driver's own words may quote a part of the password, where that is not escaped as it has to be.
        let parsed = format!("postgres://{place}?{}", others.join("&")).parse::<Config>();
        let Ok(mut driver) = parsed else {
            return Err(invalid(
                "one that can't be read (is each special character of the password escaped, as %40 for @?)",
            ));
        };
        if driver.get_hosts().is_empty() {
            return Err(invalid("one without a host"));
        }
        let verification = verification(mode.as_deref(), &driver)?;
        let mode = match verification {
            None => SslMode::Disable,
            Some(Verification::None) if mode.as_deref() != Some("require") => SslMode::Prefer,
            Some(_) => SslMode::Require,
        };
        driver.ssl_mode(mode);
        if driver.get_password().is_none()
            && let Some(password) = std::env::var_os("PGPASSWORD")
        {
            driver.password(password.as_encoded_bytes());
        }
        if driver.get_connect_timeout().is_none() {
            driver.connect_timeout(CONNECT_TIMEOUT);
        }
        if driver.get_application_name().is_none() {
            driver.application_name("driftlock");
        }
        let (idle, interval, retries) = KEEPALIVE;
        driver.keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(retries);
        Ok(Self { driver, schema, trust: Trust { verification, roots } })
    }

    /// The longest that one try to connect may take.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.driver.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT)
    }
}

/// Host, port, database and schema: what is shown in messages.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports = self.driver.get_ports();
        f.write_str("postgres://")?;
        for (index, host) in self.driver.get_hosts().iter().enumerate() {
            let port = ports.get(index).or_else(|| ports.first()).copied().unwrap_or(5432);
            let comma = if index > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}:{port}", path.display())?,
            }
        }
        write!(f, "/{}?schema={}", self.driver.get_dbname().unwrap_or_default(), self.schema)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn verification(mode: Option<&str>, driver: &Config) -> Result<Option<Verification>> {
    Ok(match mode {
        Some("disable") => None,
        Some("prefer" | "require") => Some(Verification::None),
        None if driver.get_hosts().iter().all(is_of_this_machine) => Some(Verification::None),
        None | Some("verify-full") => Some(Verification::Full),
        Some(_) => return Err(invalid("an sslmode other than disable, prefer, require and verify-full")),
    })
}

fn is_of_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn invalid(actual: &str) -> Error {
    Error::InvalidArgument { argument: "store", expected: EXPECTED, actual: actual.to_owned() }
}

fn decode(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
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
        assert_eq!(address.driver.get_password(), Some(&b"s3cret@"[..]));
    }

    #[test]
    fn tls_is_verified_in_the_network_and_tried_on_this_machine_unless_said_otherwise() {
        let trust = |url: &str| {
            let address = Address::parse(url).unwrap();
            (address.driver.get_ssl_mode(), address.trust.verification)
        };
        assert_eq!(trust("postgres://db.example/x"), (SslMode::Require, Some(Verification::Full)));
        assert_eq!(trust("postgres://127.0.0.1/x"), (SslMode::Prefer, Some(Verification::None)));
        assert_eq!(trust("postgres:///x?host=/run/postgresql"), (SslMode::Prefer, Some(Verification::None)));
        assert_eq!(trust("postgres://localhost,db.example/x"), (SslMode::Require, Some(Verification::Full)));
        assert_eq!(trust("postgres://db.example/x?sslmode=disable"), (SslMode::Disable, None));
        assert_eq!(
            trust("postgres://db.example/x?sslmode=require"),
            (SslMode::Require, Some(Verification::None))
        );
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for url in [
            "mysql://ada:s3cret@h/d",
            "postgres://ada:s3cret#/?@h:x/d",
            "postgres://ada:s3cret@h:port/d",
            "postgres://ada:s3cret@h/d?schema=",
            "postgres://ada:s3cret@h/d?schema=%zz",
            "postgres://ada:s3cret@h/d?sslmode=maybe",
            "postgres://ada:s3cret@h/d?s3cret=1",
            "postgres:///d",
            "host=h password=s3cret",
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.code(), "INVALID_ARGUMENT");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

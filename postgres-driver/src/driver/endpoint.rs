//! Where a server is, from a URL.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

use super::tls::{Connector, Trust, Verification};
use crate::client::Problem;
use crate::percent::decode;

/// How long one try to connect lasts at most.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how much silence the system asks whether the other side is still there, how often, and how many times.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
/// After how long the system gives up what the other side hasn't taken: a request must not come out of a network that is
/// whole again when its call has long failed.
const UNTAKEN: Duration = Duration::from_secs(10);

/// A server and a database there. Shown without user and password.
pub(super) struct Endpoint {
    driver: Config,
    /// The same for each host alone, in their order.
    alone: Vec<Config>,
    trust: Trust,
    connector: OnceLock<Result<Connector, String>>,
}

impl Endpoint {
    /// Reads `postgres://user:password@host:port/database?option=value&…`.
    ///
    /// Options of our own are `sslmode` and `sslrootcert`; the others are tokio-postgres's. Without a password in the URL
    /// that of the environment's `PGPASSWORD` counts.
    ///
    /// `sslmode` is `verify-full`, unless given, for hosts of the network, and `prefer` for this machine's: `require` and
    /// `prefer` keep listeners out and nobody who pretends to be the server.
    pub(super) fn parse(url: &str) -> Result<Self, Problem> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || decode(value).ok_or_else(|| unusable("an option with a broken % escape"));
            match name {
                "sslmode" => mode = Some(decoded()?),
                "sslrootcert" => roots = Some(PathBuf::from(decoded()?)),
                _ => others.push(pair),
            }
        }
        // The driver's own words may quote a part of the password, where that is not escaped as it has to be.
        let parsed = format!("{place}?{}", others.join("&")).parse::<Config>();
        let Ok(mut driver) = parsed else {
            return Err(unusable(
                "one that can't be read (is each special character of the password escaped, as %40 for @?)",
            ));
        };
        if driver.get_hosts().is_empty() {
            return Err(unusable("one without a host"));
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
            // So that the last of several is tried too if those before it don't answer.
            driver.connect_timeout(CONNECT_TIMEOUT / hosts(&driver));
        }
        if driver.get_application_name().is_none() {
            driver.application_name("driftlock");
        }
        let (idle, interval, retries) = KEEPALIVE;
        driver.keepalives_idle(idle).keepalives_interval(interval).keepalives_retries(retries);
        driver.tcp_user_timeout(UNTAKEN);
        let alone = alone(&driver)?;
        Ok(Self { driver, alone, trust: Trust { verification, roots }, connector: OnceLock::new() })
    }

    /// How to connect to each host, in the order in which they are tried.
    pub(super) fn each(&self) -> Vec<&Config> {
        let mut each: Vec<&Config> = self.alone.iter().collect();
        if self.driver.get_load_balance_hosts() == LoadBalanceHosts::Random {
            // Whichever is the first is as good as a shuffle.
            let random = RandomState::new().build_hasher().finish();
            let length = each.len() as u64;
            each.rotate_left(usize::try_from(random % length).unwrap_or(0));
        }
        each
    }

    /// What makes the connections encrypted. Its certificates are read once.
    pub(super) fn connector(&self) -> Result<Connector, Problem> {
        self.connector.get_or_init(|| self.trust.connector()).clone().map_err(Problem::Unusable)
    }

    /// The longest that one try to connect may take, to whichever of the hosts.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.driver.get_connect_timeout().map_or(CONNECT_TIMEOUT, |each| *each * hosts(&self.driver))
    }
}

/// Host, port and database: what is shown in messages.
impl fmt::Display for Endpoint {
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
        write!(f, "/{}", self.driver.get_dbname().unwrap_or_default())
    }
}

/// The configuration for each host alone: the driver limits how long a host takes to accept a connection, not how long
/// one says nothing then, and would not come to the next.
fn alone(all: &Config) -> Result<Vec<Config>, Problem> {
    let (hosts, addresses, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    if !addresses.is_empty() && addresses.len() != hosts.len() {
        return Err(unusable("one with another number of hostaddr than of hosts"));
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(unusable("one with another number of ports than of hosts"));
    }
    let alone = |(index, host): (usize, &Host)| {
        let mut one = without_hosts(all);
        match host {
            Host::Tcp(name) => one.host(name),
            #[cfg(unix)]
            Host::Unix(path) => one.host_path(path),
        };
        if let Some(address) = addresses.get(index) {
            one.hostaddr(*address);
        }
        if let Some(port) = ports.get(index).or_else(|| ports.first()) {
            one.port(*port);
        }
        one
    };
    Ok(hosts.iter().enumerate().map(alone).collect())
}

/// The driver can't take a host away from a configuration.
fn without_hosts(all: &Config) -> Config {
    let mut one = Config::new();
    one.ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .target_session_attrs(all.get_target_session_attrs())
        .channel_binding(all.get_channel_binding())
        .load_balance_hosts(all.get_load_balance_hosts());
    all.get_user().map(|user| one.user(user));
    all.get_password().map(|password| one.password(password));
    all.get_dbname().map(|name| one.dbname(name));
    all.get_options().map(|options| one.options(options));
    all.get_application_name().map(|name| one.application_name(name));
    all.get_connect_timeout().map(|timeout| one.connect_timeout(*timeout));
    all.get_tcp_user_timeout().map(|timeout| one.tcp_user_timeout(*timeout));
    all.get_keepalives_interval().map(|interval| one.keepalives_interval(interval));
    all.get_keepalives_retries().map(|retries| one.keepalives_retries(retries));
    one
}

fn hosts(driver: &Config) -> u32 {
    u32::try_from(driver.get_hosts().len()).unwrap_or(u32::MAX).max(1)
}

fn verification(mode: Option<&str>, driver: &Config) -> Result<Option<Verification>, Problem> {
    Ok(match mode {
        Some("disable") => None,
        Some("prefer" | "require") => Some(Verification::None),
        None if driver.get_hosts().iter().all(is_of_this_machine) => Some(Verification::None),
        None | Some("verify-full") => Some(Verification::Full),
        Some(_) => return Err(unusable("an sslmode other than disable, prefer, require and verify-full")),
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

fn unusable(actual: &str) -> Problem {
    Problem::Unusable(actual.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_user_and_password() {
        let endpoint =
            Endpoint::parse("postgres://ada:s3cret%40@db.example:6432/agents?sslmode=require").unwrap();
        assert_eq!(endpoint.to_string(), "postgres://db.example:6432/agents");
        assert_eq!(endpoint.driver.get_password(), Some(&b"s3cret@"[..]));
    }

    #[test]
    fn each_host_has_all_the_options_and_its_own_port() {
        let all = "options=-cjit%3Doff&application_name=x&connect_timeout=3&keepalives=0&target_session_attrs=read-write\
                   &channel_binding=disable&load_balance_hosts=random&sslnegotiation=direct&sslmode=require";
        let several = format!("postgres://ada:s3cret@one:1,two:2/agents?{all}&hostaddr=127.0.0.1,127.0.0.2");
        let alone = |host: &str| format!("postgres://ada:s3cret@{host}/agents?{all}&hostaddr=127.0.0.");
        let endpoint = Endpoint::parse(&several).unwrap();
        for (one, alone) in endpoint.alone.iter().zip([alone("one:1") + "1", alone("two:2") + "2"]) {
            assert_eq!(*one, Endpoint::parse(&alone).unwrap().driver);
        }
        assert_eq!(endpoint.alone.len(), 2);
        let firsts = |url: &str| {
            let endpoint = Endpoint::parse(url).unwrap();
            let first = || endpoint.each()[0].get_ports()[0];
            (0..64).map(|_| first()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(firsts(&several), [1, 2].into());
        assert_eq!(firsts("postgres://one:1,two:2/agents"), [1].into());
    }

    #[test]
    fn tls_is_verified_in_the_network_and_tried_on_this_machine_unless_said_otherwise() {
        let trust = |url: &str| {
            let endpoint = Endpoint::parse(url).unwrap();
            (endpoint.driver.get_ssl_mode(), endpoint.trust.verification)
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
    fn what_is_no_url_is_refused_without_repeating_it() {
        for url in [
            "postgres://ada:s3cret#/?@h:x/d",
            "postgres://ada:s3cret@h:port/d",
            "postgres://ada:s3cret@h/d?sslrootcert=%zz",
            "postgres://ada:s3cret@h/d?sslmode=maybe",
            "postgres://ada:s3cret@h/d?s3cret=1",
            "postgres:///d",
            "postgres://ada:s3cret@a:1,b:2/d?port=3",
            "postgres://ada:s3cret@a,b/d?hostaddr=127.0.0.1",
        ] {
            match Endpoint::parse(url) {
                Err(Problem::Unusable(text)) => assert!(!text.contains("s3cret"), "{text}"),
                other => panic!("{:?}", other.map(|endpoint| endpoint.to_string())),
            }
        }
    }
}

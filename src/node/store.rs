//! Where things are kept, as JavaScript and the environment say it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use napi::bindgen_prelude::Unknown;

use super::arguments::{Fields, invalid, text};
use crate::clock::{Clock, SystemClock};
use crate::digest::hex_digest;
use crate::error::{Error, Result};
use crate::lease::{LeaseManager, LeaseOptions, PRESENCE_ON_SERVER, PostgresLeaseStore};
use crate::place::{self, NetworkPolicy, SystemProbe};

/// What counts for everybody who does not say it.
const VARIABLE: &str = "DRIFTLOCK_STORE";
const EXPECTED: &str =
    "'sqlite' or a URL such as postgres://user:password@host:5432/database?schema=driftlock";

/// The store that was chosen. May hold a password, so it can't be shown.
pub(super) enum Store {
    /// The workspace's own files.
    Workspace,
    /// The server at this URL.
    Server(String),
}

impl Store {
    /// Reads the option `store`.
    pub(super) fn of_options(options: Option<Unknown<'_>>) -> Result<Self> {
        let url = |value: Unknown<'_>, name| text(value, name).map_err(|_| invalid(name, EXPECTED, value));
        match Fields::optional(options, "options")?.read("store", url)? {
            Some(store) => Self::parse("store", &store.to_string_lossy()),
            None => Self::of_environment(),
        }
    }

    /// What the environment says.
    pub(super) fn of_environment() -> Result<Self> {
        match std::env::var_os(VARIABLE) {
            Some(store) if !store.is_empty() => Self::parse(VARIABLE, &store.to_string_lossy()),
            _ => Ok(Self::Workspace),
        }
    }

    fn parse(argument: &'static str, store: &str) -> Result<Self> {
        if store == "sqlite" {
            return Ok(Self::Workspace);
        }
        match PostgresLeaseStore::check(store) {
            Ok(()) => Ok(Self::Server(store.to_owned())),
            Err(Error::InvalidArgument { actual, .. }) => {
                Err(Error::InvalidArgument { argument, expected: EXPECTED, actual })
            }
            Err(error) => Err(error),
        }
    }

    /// Names the store and those who use it, in one way, without its password.
    pub(super) fn place(&self, root: &Path) -> PathBuf {
        match self {
            Self::Workspace => root.to_owned(),
            Self::Server(url) => PathBuf::from(hex_digest(url.as_bytes())),
        }
    }

    /// Opens the leases of a workspace; does first what the policy says about where its files are.
    pub(super) fn leases(
        &self,
        root: &Path,
        policy: NetworkPolicy,
        options: LeaseOptions,
    ) -> Result<LeaseManager> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        match self {
            Self::Workspace => {
                place::admit(root, &root.join("state/orchestrator.db"), policy, &SystemProbe)?;
                LeaseManager::open(root, options, clock)
            }
            Self::Server(url) => {
                // Of the workspace only what shows on this machine who is alive.
                place::admit_file_system(root, &root.join(PRESENCE_ON_SERVER), policy, &SystemProbe)?;
                let store = leases_at(url, root)?;
                LeaseManager::with_store(Arc::new(store), clock, options)
            }
        }
    }
}

/// The leases at a URL, as processes in this workspace use them.
pub(super) fn leases_at(url: &str, root: &Path) -> Result<PostgresLeaseStore> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    PostgresLeaseStore::open(url, &root.join(PRESENCE_ON_SERVER), &clock)
}

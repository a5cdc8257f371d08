//! What only a server can do: lose answers, end, be somebody else.

mod abandoned;
mod encrypted;
mod ending;
mod faults;
mod full;
mod lost;
mod opening;
mod partition;
mod pooler;
mod standby;
mod storm;
mod waiters;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::PostgresLeaseStore;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::lease::{Acquisition, Lease, LeaseManager, LeaseOptions, Patience};
use crate::postgres::quoted;
use crate::postgres::testing::{TestServer, url_at};
use crate::text::Text;

/// A schema on the server's own clock, and the folder of the processes that use it.
pub(super) struct Place<'s> {
    pub(super) server: &'s TestServer,
    pub(super) schema: String,
    folder: tempfile::TempDir,
}

impl<'s> Place<'s> {
    fn on(server: &'s TestServer) -> Self {
        Self { server, schema: TestServer::new_schema(), folder: tempfile::tempdir().unwrap() }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A manager whose leases last a minute.
    fn manager(&self, agent: &str) -> LeaseManager {
        self.manager_at(&self.server.url(&self.schema), options(agent)).unwrap()
    }

    /// One that goes by a port of this machine.
    fn manager_by(&self, port: u16, agent: &str) -> LeaseManager {
        self.manager_at(&url_at(port, &self.schema), options(agent)).unwrap()
    }

    fn manager_at(&self, url: &str, options: LeaseOptions) -> Result<LeaseManager> {
        open(url, self.folder(), options)
    }

    fn store_at(&self, url: &str) -> Result<PostgresLeaseStore> {
        PostgresLeaseStore::open(url, &self.folder().join("state/postgres/leases"), &clock())
    }

    /// What a statement says, in which `@` stands for the schema.
    fn number(&self, sql: &str) -> i64 {
        self.server.execute(&sql.replace('@', &quoted(&self.schema)))[0].get(0)
    }
}

fn open(url: &str, folder: &Path, options: LeaseOptions) -> Result<LeaseManager> {
    let store = PostgresLeaseStore::open(url, &folder.join("state/postgres/leases"), &clock())?;
    let manager = LeaseManager::with_store(Arc::new(store), clock(), options)?;
    // The first call makes the schema.
    manager.latest_event(Patience::lasting(Duration::from_secs(10)))?;
    Ok(manager)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn options(agent: &str) -> LeaseOptions {
    LeaseOptions { lease_duration_ms: 60_000, ..LeaseOptions::of(t(agent)) }
}

fn soon() -> Patience {
    Patience::Until(Instant::now() + Duration::from_secs(20))
}

fn t(text: &str) -> Text {
    Text::from(text)
}

fn acquire(manager: &LeaseManager, task: &str) -> Acquisition {
    manager.acquire(&t(task), &t("PLAN"), soon()).unwrap()
}

fn acquired(manager: &LeaseManager, task: &str) -> Lease {
    match acquire(manager, task) {
        Acquisition::Acquired(lease) => lease,
        held @ Acquisition::Held { .. } => panic!("{held:?}"),
    }
}

fn release(manager: &LeaseManager, task: &str) -> bool {
    manager.release(&t(task), &t("PLAN"), soon()).unwrap()
}

//! Tests of leases: what is promised of every store on each of them, the rest on SQLite.

mod claims;
mod contention;
mod legacy;
mod lifecycle;
mod model;
#[cfg(unix)]
mod postgres;
mod processes;
mod strings;
mod totals;
mod transfer;
mod workspace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::{Acquisition, Lease, LeaseManager, LeaseOptions, Patience};
use crate::clock::ManualClock;
use crate::error::Result;
use crate::text::Text;

const START: i64 = 1_800_000_000_000;
const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600_000;

/// A workspace on a clock of its own.
struct Fixture {
    folder: TempDir,
    clock: Arc<ManualClock>,
    #[cfg(unix)]
    on_postgres: Option<postgres::Schema>,
}

/// Makes the workspaces of a test, all with the same kind of store.
type NewFixture = fn() -> Fixture;

/// Runs tests on each store.
macro_rules! on_each_store {
    ($($test:ident,)+) => {
        mod on_sqlite {
            $(#[test] fn $test() { super::$test(super::Fixture::new); })+
        }

        #[cfg(unix)]
        mod on_postgres {
            use crate::lease::tests::postgres::{is_there, new_fixture};

            $(#[test] fn $test() { if is_there() { super::$test(new_fixture); } })+
        }
    };
}
use on_each_store;

impl Fixture {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(START)),
            #[cfg(unix)]
            on_postgres: None,
        }
    }

    /// Lets time pass.
    fn advance(&self, ms: i64) {
        self.clock.advance(ms);
        #[cfg(unix)]
        if let Some(schema) = &self.on_postgres {
            schema.set_clock(&*self.clock);
        }
    }

    fn open(&self, options: LeaseOptions) -> Result<LeaseManager> {
        #[cfg(unix)]
        if let Some(schema) = &self.on_postgres {
            return schema.open(self, options);
        }
        LeaseManager::open(self.path(), options, self.clock.clone())
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn database(&self) -> PathBuf {
        self.path().join("state/orchestrator.db")
    }

    /// A manager whose leases last 10 s and may be renewed three times.
    fn manager(&self, agent: &str) -> LeaseManager {
        self.try_manager(agent).unwrap()
    }

    fn try_manager(&self, agent: &str) -> Result<LeaseManager> {
        self.open(options(agent))
    }

    /// Another connection to the database, as another program would have it.
    fn connection(&self) -> Connection {
        std::fs::create_dir_all(self.path().join("state")).unwrap();
        let connection = Connection::open(self.database()).unwrap();
        connection.busy_timeout(Duration::from_secs(5)).unwrap();
        connection
    }

    /// A look at the database that creates nothing.
    fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        let connection =
            Connection::open_with_flags(self.database(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn options(agent: &str) -> LeaseOptions {
    LeaseOptions { lease_duration_ms: 10 * SECOND, max_renewals: 3, ..LeaseOptions::of(Text::from(agent)) }
}

fn soon() -> Patience {
    Patience::Until(Instant::now() + Duration::from_secs(5))
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

fn is_refused(manager: &LeaseManager, task: &str) -> bool {
    matches!(acquire(manager, task), Acquisition::Held { .. })
}

fn release(manager: &LeaseManager, task: &str) -> bool {
    manager.release(&t(task), &t("PLAN"), soon()).unwrap()
}

fn holds(manager: &LeaseManager, task: &str) -> bool {
    manager.holds(&t(task), &t("PLAN"), soon()).unwrap()
}

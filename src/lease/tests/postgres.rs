//! The PostgreSQL store for the tests of every store: its schema goes by the test's clock.

use super::*;
use crate::clock::Clock;
use crate::lease::PostgresLeaseStore;
use crate::postgres::quoted;
use crate::postgres::testing::TestServer;

/// A schema on a clock of its own.
pub(super) struct Schema {
    name: String,
    server: &'static TestServer,
}

/// Whether there is a server.
pub(super) fn is_there() -> bool {
    TestServer::shared().is_some()
}

/// A workspace whose leases are on the server.
pub(super) fn new_fixture() -> Fixture {
    let server = TestServer::shared().expect("asked for before");
    let fixture = Fixture { on_postgres: None, ..Fixture::new() };
    let schema = Schema { name: TestServer::new_schema(), server };
    // The first call makes the schema.
    schema.open(&fixture, options("nobody")).unwrap().stats(soon()).unwrap();
    let name = quoted(&schema.name);
    server.execute(&format!("CREATE TABLE {name}.clock AS SELECT now()"));
    server.execute(&format!(
        "CREATE OR REPLACE FUNCTION {name}.now_1() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM {name}.clock'"
    ));
    schema.set_clock(&*fixture.clock);
    Fixture { on_postgres: Some(schema), ..fixture }
}

impl Schema {
    pub(super) fn open(&self, fixture: &Fixture, options: LeaseOptions) -> Result<LeaseManager> {
        let clock: Arc<dyn Clock> = fixture.clock.clone();
        let beside = fixture.path().join("state/postgres/leases");
        let store = PostgresLeaseStore::open(&self.server.url(&self.name), &beside, &clock)?;
        LeaseManager::with_store(Arc::new(store), clock, options)
    }

    /// Moves the server's clock by as much as the boot clock was, whatever was done to the wall clock.
    pub(super) fn set_clock(&self, clock: &dyn Clock) {
        let ms = START + clock.boot_ms() - 60_000;
        let name = quoted(&self.name);
        self.server.execute(&format!("UPDATE {name}.clock SET now = to_timestamp({ms} / 1000.0)"));
    }
}

//! Records on a server: what is promised of every store, with texts of any kind, and what only a server can do.

mod faults;
mod fences;
mod lines;
mod lost;
mod opening;
mod plans;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::quoted;
use super::testing::{TestServer, url_at};
use crate::attestation::store::Prepared;
use crate::attestation::{Attestation, AttestationStore as _, PostgresAttestations, PromptSpec};
use crate::clock::{Clock, SystemClock};
use crate::durability::Durability;
use crate::lease::{LeaseManager, LeaseOptions, PostgresLeaseStore};
use crate::ledger::{LedgerStore as _, PostgresLedger, Transition};
use crate::patience::Patience;
use crate::text::Text;

/// A schema of a server.
struct Place<'s> {
    server: &'s TestServer,
    schema: String,
}

impl<'s> Place<'s> {
    fn on(server: &'s TestServer) -> Self {
        Self { server, schema: TestServer::new_schema() }
    }

    fn url(&self) -> String {
        self.server.url(&self.schema)
    }

    /// One that goes by a port of this machine.
    fn url_by(&self, port: u16) -> String {
        url_at(port, &self.schema)
    }

    /// What a statement says, in which `@` stands for the schema.
    fn number(&self, sql: &str) -> i64 {
        self.server.execute(&sql.replace('@', &quoted(&self.schema)))[0].get(0)
    }

    fn leases(&self, agent: &str, folder: &Path) -> LeaseManager {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = PostgresLeaseStore::open(&self.url(), folder, &clock).unwrap();
        LeaseManager::with_store(Arc::new(store), clock, LeaseOptions::of(t(agent))).unwrap()
    }
}

fn ledger(url: &str) -> PostgresLedger {
    PostgresLedger::new(url).unwrap()
}

fn attestations(url: &str) -> PostgresAttestations {
    PostgresAttestations::new(url).unwrap()
}

/// The same place, by connections of its own.
fn another(url: &str, name: &str) -> String {
    format!("{url}&application_name={name}")
}

fn step(task: &str, phase: &str) -> Transition {
    Transition { task_id: t(task), to_phase: t(phase), ..Transition::default() }
}

fn prompt(task: &str, context: &str) -> Prepared {
    Prepared::new(PromptSpec {
        task_id: t(task),
        phase: t("VERIFY"),
        requirements: vec![t(context)],
        ..PromptSpec::default()
    })
}

fn append(ledger: &PostgresLedger, task: &str, phase: &str) -> String {
    ledger.append(&[&step(task, phase)], Durability::Process, soon()).unwrap().remove(0)
}

fn attest(attestations: &PostgresAttestations, task: &str, context: &str) -> Attestation {
    attestations.attest(&[&prompt(task, context)], Durability::Process, soon()).unwrap().remove(0)
}

fn soon() -> Patience {
    Patience::lasting(Duration::from_secs(20))
}

fn t(text: &str) -> Text {
    Text::from(text)
}

//! An agent's access to leases.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::model::{Acquisition, Lease, LeaseKey, LeaseStats, Renewal, StoreHealth};
use super::patience::{Closing, Patience, Wait};
use super::sqlite_store::SqliteLeaseStore;
use super::store::{LeaseStore, LeaseTerms};
use crate::clock::Clock;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::text::Text;

/// What an agent sets for all of its leases.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// How long a lease lasts without renewal, in milliseconds; positive.
    pub lease_duration_ms: i64,
    /// How often a lease may be renewed; 0 forbids it.
    pub max_renewals: u64,
    /// Who the agent is. Two managers with the same id are the same holder.
    pub agent_id: Text,
    /// What an acknowledged change survives. With [`Durability::PowerCut`] every change syncs the disk.
    pub durability: Durability,
}

/// Acquires, renews and releases leases for one agent.
pub struct LeaseManager {
    store: Box<dyn LeaseStore>,
    options: LeaseOptions,
    closing: Closing,
}

impl LeaseManager {
    /// Opens `<workspace>/state/orchestrator.db`, creating `state/` and the file.
    ///
    /// Waits up to 5 s for other processes that open it for the first time too. Other tables in the file, and a
    /// file that is no database, stay as they are.
    pub fn open(workspace: &Path, options: LeaseOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        check(&options)?;
        Ok(Self::with_store(Box::new(SqliteLeaseStore::open(workspace, clock, options.durability)?), options))
    }

    /// A manager whose leases are kept in `store`.
    #[must_use]
    pub fn with_store(store: Box<dyn LeaseStore>, options: LeaseOptions) -> Self {
        Self { store, options, closing: Closing::default() }
    }

    /// Who holds what this manager acquires.
    #[must_use]
    pub fn agent_id(&self) -> &Text {
        &self.options.agent_id
    }

    /// Acquires the lease unless somebody holds it, this agent included. An expired lease is anyone's.
    pub fn acquire(&self, task: &Text, phase: &Text, patience: Patience) -> Result<Acquisition> {
        self.store.acquire(LeaseKey { task, phase }, self.terms(), self.wait(patience)?)
    }

    /// Extends this agent's lease to its full duration from now, also an expired one that nobody has taken over.
    pub fn renew(&self, task: &Text, phase: &Text, patience: Patience) -> Result<Renewal> {
        let (key, wait) = (LeaseKey { task, phase }, self.wait(patience)?);
        self.store.renew(key, self.terms(), self.options.max_renewals, wait)
    }

    /// Ends this agent's lease, also an expired one; says whether there was one.
    pub fn release(&self, task: &Text, phase: &Text, patience: Patience) -> Result<bool> {
        self.store.release(LeaseKey { task, phase }, self.agent_id(), None, self.wait(patience)?)
    }

    /// Ends all leases of this agent, by whatever manager they were acquired; says how many there were.
    pub fn release_all(&self, patience: Patience) -> Result<u64> {
        self.store.release_all(self.agent_id(), self.wait(patience)?)
    }

    /// The lease for a task and phase, whoever holds it, also an expired one. Waits for no writer.
    pub fn get(&self, task: &Text, phase: &Text, patience: Patience) -> Result<Option<Lease>> {
        self.store.get(LeaseKey { task, phase }, self.wait(patience)?)
    }

    /// Whether this agent holds the lease and it has not expired. Waits for no writer.
    pub fn holds(&self, task: &Text, phase: &Text, patience: Patience) -> Result<bool> {
        self.store.holds(LeaseKey { task, phase }, self.agent_id(), self.wait(patience)?)
    }

    /// Figures about the leases of all agents. What other processes did may show up half a second late.
    pub fn stats(&self, patience: Patience) -> Result<LeaseStats> {
        self.store.stats(self.wait(patience)?)
    }

    /// How the store is, for those who operate it.
    pub fn health(&self, patience: Patience) -> Result<StoreHealth> {
        self.store.health(self.wait(patience)?)
    }

    /// Lets calls that are under way wait for others until `deadline` only. To be followed by [`Self::close`].
    pub fn begin_closing(&self, deadline: Instant) {
        self.closing.begin(deadline);
    }

    /// Ends the use of the store; the leases stay. Idempotent.
    ///
    /// After it returns nothing is written below the workspace on behalf of this manager, and calls, those that
    /// still wait included, fail with [`Error::Closed`].
    pub fn close(&self) {
        self.closing.finish();
        self.store.close();
    }

    fn terms(&self) -> LeaseTerms<'_> {
        LeaseTerms { holder: self.agent_id(), duration_ms: self.options.lease_duration_ms }
    }

    fn wait(&self, patience: Patience) -> Result<Wait<'_>> {
        self.closing.check_open()?;
        Ok(Wait::new(patience, &self.closing))
    }
}

impl Drop for LeaseManager {
    fn drop(&mut self) {
        self.close();
    }
}

fn check(options: &LeaseOptions) -> Result<()> {
    if options.lease_duration_ms > 0 {
        return Ok(());
    }
    Err(Error::InvalidArgument {
        argument: "leaseDuration",
        expected: "at least a millisecond",
        actual: format!("{} ms", options.lease_duration_ms),
    })
}

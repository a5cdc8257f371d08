//! An agent's access to leases.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Claim, Claimed, Fence, LeaseEvent, ListedLease, OwnedKey};
use super::hold::Holds;
use super::model::{Acquisition, Lease, LeaseKey, LeaseStats, LeaseTotals, Renewal, StoreHealth};
use super::patience::{Closing, Patience, Wait};
use super::sqlite_store::SqliteLeaseStore;
use super::store::{LeaseStore, LeaseTerms, Request};
use crate::clock::Clock;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::metrics;
use crate::text::Text;

/// How often a renewal is tried.
const RENEWAL_ATTEMPTS: u32 = 3;
const BETWEEN_RENEWALS: Duration = Duration::from_millis(100);

/// How long the release of what is held may wait for other processes while closing.
const RELEASE_AT_CLOSE: Duration = Duration::from_millis(100);

/// What an agent sets for all of its leases.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// How long a lease lasts without renewal, in milliseconds; positive.
    pub lease_duration_ms: i64,
    /// How often a lease may be renewed; 0 forbids it.
    pub max_renewals: u64,
    /// Who the agent is. Two managers with the same id are the same holder.
    pub agent_id: Text,
    /// Whether leases of processes that are known to be dead are free at once.
    pub takes_from_the_dead: bool,
    /// Whether a lease that the agent has already is given to it again, for its full duration.
    pub is_reentrant: bool,
    /// What an acknowledged change survives. With [`Durability::PowerCut`] every change syncs the disk.
    pub durability: Durability,
}

impl LeaseOptions {
    /// What an agent gets that sets nothing else: leases of 5 minutes, renewed 10 times at most.
    #[must_use]
    pub fn of(agent_id: Text) -> Self {
        Self {
            lease_duration_ms: 300_000,
            max_renewals: 10,
            agent_id,
            takes_from_the_dead: false,
            is_reentrant: false,
            durability: Durability::default(),
        }
    }
}

/// Acquires, renews and releases leases for one agent.
pub struct LeaseManager {
    store: Arc<dyn LeaseStore>,
    clock: Arc<dyn Clock>,
    options: LeaseOptions,
    closing: Closing,
    holds: Arc<Holds>,
}

impl LeaseManager {
    /// Opens `<workspace>/state/orchestrator.db`, creating `state/` and the file.
    ///
    /// Waits up to 5 s for other processes that open it for the first time too. Other tables in the file, and a
    /// file that is no database, stay as they are.
    pub fn open(workspace: &Path, options: LeaseOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        check(&options)?;
        let store = SqliteLeaseStore::open(workspace, Arc::clone(&clock), options.durability)?;
        Self::with_store(Arc::new(store), clock, options)
    }

    /// [`Self::open`], but fails where there is no database.
    pub fn open_existing(workspace: &Path, options: LeaseOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        check(&options)?;
        let store = SqliteLeaseStore::open_existing(workspace, Arc::clone(&clock), options.durability)?;
        Self::with_store(Arc::new(store), clock, options)
    }

    /// A manager whose leases are kept in `store`.
    pub fn with_store(
        store: Arc<dyn LeaseStore>,
        clock: Arc<dyn Clock>,
        options: LeaseOptions,
    ) -> Result<Self> {
        check(&options)?;
        Ok(Self { store, clock, options, closing: Closing::default(), holds: Arc::default() })
    }

    /// The server that has the leases, without credentials; `None` if they are in the workspace.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        self.store.server()
    }

    /// Who holds what this manager acquires.
    #[must_use]
    pub fn agent_id(&self) -> &Text {
        &self.options.agent_id
    }

    /// Whether calls wait for a network: none can be made where nothing may block.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    /// How long a call waits that was made at `asked` and has its turn now, if calls are given so long.
    ///
    /// Other calls of this manager take no time from one over the network, which would be sent and not waited for, unless
    /// there is no answer to them either.
    #[must_use]
    pub fn patience(&self, asked: Instant, duration: Duration) -> Patience {
        if self.is_remote() && !self.store.is_silent_since(asked) {
            return Patience::lasting(duration);
        }
        Patience::Until(asked + duration)
    }

    /// Acquires the lease unless somebody holds it, this agent included unless it asked to be let in again. An expired
    /// lease is anyone's.
    pub fn acquire(&self, task: &Text, phase: &Text, patience: Patience) -> Result<Acquisition> {
        let answer = self.wait(patience).and_then(|wait| {
            if self.options.takes_from_the_dead || self.options.is_reentrant {
                let key = OwnedKey { task: task.clone(), phase: phase.clone() };
                return self.store.claim(&self.new_claim(vec![key]), wait).map(Acquisition::from);
            }
            self.store.acquire(LeaseKey { task, phase }, self.terms(), wait)
        });
        if is_answer(&answer, patience) {
            self.count_acquisition(&answer);
        }
        answer
    }

    /// Releases one lease of this agent and acquires another in one step; `None`, and nothing is changed, if it doesn't
    /// hold the first.
    pub fn advance(&self, from: OwnedKey, to: OwnedKey, patience: Patience) -> Result<Option<Acquisition>> {
        let mut claim = self.new_claim(vec![to]);
        claim.instead_of = Some((from, None));
        let answer = match self.wait(patience).and_then(|wait| self.store.claim(&claim, wait)) {
            Ok(Claimed::NothingToGiveUp) => return Ok(None),
            Ok(claimed) => Ok(Acquisition::from(claimed)),
            Err(error) => Err(error),
        };
        if is_answer(&answer, patience) {
            self.count_acquisition(&answer);
        }
        answer.map(Some)
    }

    /// Ends a lease, whoever's it is; the lease, if there was one. The store keeps a record of who did it and why.
    pub fn force_release(
        &self,
        key: LeaseKey<'_>,
        by: &Text,
        reason: &Text,
        patience: Patience,
    ) -> Result<Option<Lease>> {
        self.store.force_release(key, by, reason, self.wait(patience)?)
    }

    /// Runs `work` while nobody can be granted the fence's key, if the fence's lease is still the newest one of it.
    pub fn fenced(
        &self,
        fence: &Fence,
        work: &mut dyn FnMut() -> Result<()>,
        patience: Patience,
    ) -> Result<()> {
        self.store.fenced(fence, work, self.wait(patience)?)
    }

    /// All leases of the workspace, expired ones too.
    pub fn list(&self, patience: Patience) -> Result<Vec<ListedLease>> {
        self.store.list(self.wait(patience)?)
    }

    /// The id of the latest event; 0 without any.
    pub fn latest_event(&self, patience: Patience) -> Result<i64> {
        self.store.latest_event(self.wait(patience)?)
    }

    /// What happened to leases after the event of this id, oldest first.
    pub fn events_after(&self, id: i64, patience: Patience) -> Result<Vec<LeaseEvent>> {
        self.store.events_after(id, self.wait(patience)?)
    }

    /// Extends this agent's lease to its full duration from now, also an expired one that nobody has taken over.
    ///
    /// A failure of the store is tried again, three times in all: it may pass, and doing it twice is as good as once. A
    /// caller that can't wait is told that it would have to.
    pub fn renew(&self, task: &Text, phase: &Text, patience: Patience) -> Result<Renewal> {
        let key = LeaseKey { task, phase };
        let mut attempts = 1;
        loop {
            let renewal = self
                .wait(patience)
                .and_then(|wait| self.store.renew(key, self.terms(), self.options.max_renewals, wait));
            match renewal {
                // Somebody who can wait tries again.
                Err(Error::Database { .. } | Error::Io { .. }) if patience == Patience::Now => {
                    return Err(Error::DatabaseLocked);
                }
                Err(Error::Database { .. } | Error::Io { .. } | Error::DatabaseLocked)
                    if patience != Patience::Now && attempts < RENEWAL_ATTEMPTS =>
                {
                    attempts += 1;
                    std::thread::sleep(BETWEEN_RENEWALS);
                }
                renewal => {
                    if is_answer(&renewal, patience) {
                        self.count_renewal(&renewal);
                    }
                    return renewal;
                }
            }
        }
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

    /// What has happened to the leases of all agents, and how they stand.
    pub fn totals(&self, patience: Patience) -> Result<LeaseTotals> {
        self.store.totals(self.wait(patience)?)
    }

    /// How the store is, for those who operate it.
    pub fn health(&self, patience: Patience) -> Result<StoreHealth> {
        self.store.health(self.wait(patience)?)
    }

    /// Lets calls that are under way wait for others until `deadline` only. To be followed by [`Self::close`].
    pub fn begin_closing(&self, deadline: Instant) {
        self.closing.begin(deadline);
    }

    /// Releases what is held by [`Self::hold`] and ends the use of the store; other leases stay. Idempotent.
    ///
    /// After it returns nothing is written below the workspace on behalf of this manager, and calls, those that
    /// still wait included, fail with [`Error::Closed`].
    pub fn close(&self) {
        self.holds.release(Patience::lasting(RELEASE_AT_CLOSE));
        self.closing.finish();
        self.store.close();
    }

    fn count_acquisition(&self, answer: &Result<Acquisition>) {
        let result = match answer {
            Ok(Acquisition::Acquired(_)) => metrics::Acquisition::Acquired,
            Ok(Acquisition::Held { .. }) => metrics::Acquisition::Contended,
            Err(_) => {
                self.store.count_failure(Request::Acquisition);
                metrics::Acquisition::Error
            }
        };
        metrics::acquisition(result, 1);
    }

    fn count_renewal(&self, answer: &Result<Renewal>) {
        let result = match answer {
            Ok(Renewal::Renewed { .. }) => metrics::Renewal::Renewed,
            Ok(Renewal::NotHeld | Renewal::MaxRenewalsExceeded) => metrics::Renewal::Refused,
            Err(_) => {
                self.store.count_failure(Request::Renewal);
                metrics::Renewal::Error
            }
        };
        metrics::renewal(result);
    }

    fn terms(&self) -> LeaseTerms<'_> {
        LeaseTerms { holder: self.agent_id(), duration_ms: self.options.lease_duration_ms }
    }

    pub(super) fn new_claim(&self, keys: Vec<OwnedKey>) -> Claim {
        Claim {
            keys,
            holder: self.options.agent_id.clone(),
            duration_ms: self.options.lease_duration_ms,
            takes_from_the_dead: self.options.takes_from_the_dead,
            is_reentrant: self.options.is_reentrant,
            instead_of: None,
            queue_ms: 0,
        }
    }

    pub(super) fn store(&self) -> &Arc<dyn LeaseStore> {
        &self.store
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(super) fn kept(&self) -> Arc<Holds> {
        Arc::clone(&self.holds)
    }

    pub(super) fn wait(&self, patience: Patience) -> Result<Wait<'_>> {
        self.closing.check_open()?;
        Ok(Wait::new(patience, &self.closing))
    }
}

impl Drop for LeaseManager {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether this is the answer: a caller that can't wait asks again if that is all that kept it from one.
fn is_answer<T>(answer: &Result<T>, patience: Patience) -> bool {
    patience != Patience::Now || !matches!(answer, Err(Error::DatabaseLocked))
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

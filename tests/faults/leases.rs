//! Leases, with one operation that fails. SQLite's own operations go through the shim like ours.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftlock::Result;
use driftlock::clock::SystemClock;
use driftlock::durability::Durability;
use driftlock::lease::{Acquisition, LeaseManager, LeaseOptions, Patience, Renewal};

use super::sweep::{self, Scenario, check_error};

pub(crate) fn sweep() {
    sweep::sweep::<Leased>();
}

/// The id and the renewals of a task's lease, or that it has none; `None` where something failed.
type Known = Option<Option<(String, u64)>>;

struct Leased {
    manager: Option<LeaseManager>,
    durability: Durability,
    leases: BTreeMap<&'static str, Known>,
    highest_token: i64,
}

pub(crate) fn open(root: &Path, agent: &str, durability: Durability) -> Result<LeaseManager> {
    let options = LeaseOptions {
        lease_duration_ms: 600_000,
        max_renewals: 100,
        durability,
        ..LeaseOptions::of(agent.into())
    };
    LeaseManager::open(root, options, Arc::new(SystemClock))
}

fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(2))
}

impl Leased {
    fn acquire(&mut self, root: &Path, task: &'static str) {
        let Some(manager) = &self.manager else { return };
        let known = self.leases.get(task).cloned().unwrap_or(Some(None));
        let now = match manager.acquire(&task.into(), &"PLAN".into(), patience()) {
            Ok(Acquisition::Acquired(lease)) => {
                assert!(known.as_ref().is_none_or(Option::is_none), "{task} was held");
                assert!(lease.fencing_token > self.highest_token, "a token was repeated");
                self.highest_token = lease.fencing_token;
                Some(Some((lease.lease_id, lease.renewed_count)))
            }
            Ok(Acquisition::Held { .. }) => {
                assert!(!matches!(known, Some(None)), "{task} was free");
                known
            }
            Err(error) => {
                check_error(&error, root);
                // It may have been acquired, if it was free.
                if known == Some(None) { None } else { known }
            }
        };
        self.leases.insert(task, now);
    }

    fn renew(&mut self, root: &Path, task: &'static str) {
        let Some(manager) = &self.manager else { return };
        let known = self.leases.get(task).cloned().flatten();
        match manager.renew(&task.into(), &"PLAN".into(), patience()) {
            Ok(Renewal::Renewed { .. }) => {
                let renewed = known.flatten().map(|(id, count)| Some((id, count + 1)));
                self.leases.insert(task, renewed);
            }
            Ok(_) => assert!(!matches!(known, Some(Some(_))), "{task} was held"),
            Err(error) => {
                check_error(&error, root);
                self.leases.insert(task, None);
            }
        }
    }

    fn release(&mut self, root: &Path, task: &'static str) {
        let Some(manager) = &self.manager else { return };
        match manager.release(&task.into(), &"PLAN".into(), patience()) {
            Ok(_) => drop(self.leases.insert(task, Some(None))),
            Err(error) => {
                check_error(&error, root);
                self.leases.insert(task, None);
            }
        }
    }

    fn check_leases(&self, manager: &LeaseManager) {
        for (task, known) in &self.leases {
            let found = manager.get(&(*task).into(), &"PLAN".into(), patience()).unwrap();
            let found = found.map(|lease| (lease.lease_id, lease.renewed_count));
            if let Some(known) = known {
                assert_eq!(&found, known, "{task}");
            }
        }
    }
}

impl Scenario for Leased {
    fn run(root: &Path, durability: Durability) -> Self {
        let manager = open(root, "agent", durability).or_else(|error| {
            check_error(&error, root);
            open(root, "agent", durability)
        });
        let manager = manager.inspect_err(|error| check_error(error, root)).ok();
        let mut this = Self { manager, durability, leases: BTreeMap::new(), highest_token: 0 };
        for task in ["a", "b", "c"] {
            this.acquire(root, task);
        }
        this.renew(root, "a");
        this.release(root, "b");
        this.acquire(root, "b");
        this.renew(root, "b");
        this.acquire(root, "a");
        if let Some(manager) = &this.manager {
            manager.stats(patience()).err().inspect(|error| check_error(error, root));
            manager
                .holds(&"a".into(), &"PLAN".into(), patience())
                .err()
                .inspect(|error| check_error(error, root));
        }
        this
    }

    fn check_as_left(&self, root: &Path) {
        if let Some(manager) = &self.manager {
            self.check_leases(manager);
        }
        self.check_leases(&open(root, "other", self.durability).unwrap());
    }

    fn check(mut self, root: &Path) {
        if self.manager.is_none() {
            self.manager = Some(open(root, "agent", self.durability).unwrap());
        }
        for task in ["after", "b"] {
            self.acquire(root, task);
            self.renew(root, task);
        }
        self.release(root, "c");
        assert!(["after", "c"].iter().all(|task| self.leases[task].is_some()), "a call still fails");
        let manager = self.manager.take().unwrap();
        self.check_leases(&manager);
        drop(manager);
        self.check_leases(&open(root, "other", self.durability).unwrap());
    }
}

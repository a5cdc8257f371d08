//! Random claims, waits, releases, deaths and fences on a clock that is moved by hand, against what the protocol promises.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::ManualClock;
use crate::lease::claim::{EventKind, OwnedKey};
use crate::lease::patience::Closing;

const KEYS: usize = 2;
const AGENTS: usize = 4;
const DURATION_MS: i64 = 1000;

#[derive(Debug, Clone)]
enum Step {
    /// Asks for a key without waiting, as `acquireLease` does.
    Acquire(usize, usize),
    /// Asks for one key or all of them, waiting for so long.
    Claim(usize, Option<usize>, i64),
    /// The n-th of those who wait tries again.
    Retry(usize),
    Leave(usize),
    Release(usize, usize),
    Force(usize),
    /// The n-th lease that was ever granted is renewed, or its fence used.
    Extend(usize),
    Fence(usize),
    /// An agent's process dies; another one comes in its place.
    Die(usize),
    Pass(i64),
    SetClock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let (agent, key, n) = (0..AGENTS, 0..KEYS, 0_usize..64);
    prop_oneof![
        5 => (agent.clone(), key.clone()).prop_map(|(a, k)| Step::Acquire(a, k)),
        6 => (agent.clone(), prop::option::of(key.clone()), prop_oneof![Just(0), 50..2000_i64])
            .prop_map(|(a, k, ms)| Step::Claim(a, k, ms)),
        8 => n.clone().prop_map(Step::Retry),
        1 => n.clone().prop_map(Step::Leave),
        4 => (agent.clone(), key.clone()).prop_map(|(a, k)| Step::Release(a, k)),
        1 => key.prop_map(Step::Force),
        2 => n.clone().prop_map(Step::Extend),
        4 => n.prop_map(Step::Fence),
        1 => agent.prop_map(Step::Die),
        5 => prop_oneof![1..60_i64, 1..1200_i64].prop_map(Step::Pass),
        1 => (-100_000..100_000_i64).prop_map(Step::SetClock),
    ]
}

/// A lease that was granted.
#[derive(Debug, Clone)]
struct Granted {
    key: usize,
    agent: usize,
    process: String,
    fence: Fence,
    deadline: i64,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    claim: Claim,
    keys: Vec<usize>,
    agent: usize,
    process: String,
    until: i64,
}

struct World {
    store: SqliteLeaseStore,
    clock: Arc<ManualClock>,
    _folder: tempfile::TempDir,
    processes: Vec<String>,
    dead: Vec<String>,
    granted: Vec<Granted>,
    /// The newest lease of each key, by its place in `granted`, unless it was released.
    newest: BTreeMap<usize, usize>,
    /// Since when each key is free, as far as anybody has noticed.
    free_since: BTreeMap<usize, i64>,
    queue: Vec<Waiting>,
}

fn key(index: usize) -> OwnedKey {
    OwnedKey { task: format!("task {index}").as_str().into(), phase: "PLAN".into() }
}

fn agent(index: usize) -> Text {
    format!("agent {index}").as_str().into()
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(1_800_000_000_000));
        let store =
            SqliteLeaseStore::open(folder.path(), Arc::<ManualClock>::clone(&clock), Durability::Process)
                .unwrap();
        Self {
            store,
            clock,
            _folder: folder,
            processes: (0..AGENTS).map(|agent| format!("{agent}-0@host")).collect(),
            dead: Vec::new(),
            granted: Vec::new(),
            newest: BTreeMap::new(),
            free_since: BTreeMap::new(),
            queue: Vec::new(),
        }
    }

    fn now(&self) -> i64 {
        self.clock.boot_ms()
    }

    /// The lease that keeps others from a key.
    fn live(&self, key: usize) -> Option<&Granted> {
        let lease = &self.granted[*self.newest.get(&key)?];
        (lease.deadline > self.now() && !self.dead.contains(&lease.process)).then_some(lease)
    }

    fn free_since(&self, key: usize) -> Option<i64> {
        let expired = self.newest.get(&key).map(|newest| self.granted[*newest].deadline);
        expired.filter(|deadline| *deadline <= self.now()).or_else(|| self.free_since.get(&key).copied())
    }

    /// How many are before a claim in the queue of a key.
    fn before(&self, key: usize, ticket: Option<Ticket>) -> usize {
        let counts = |other: &&Waiting| {
            other.keys.contains(&key)
                && ticket.is_none_or(|ticket| other.ticket.0 < ticket.0)
                && other.until > self.now()
                && !self.dead.contains(&other.process)
        };
        self.queue.iter().filter(counts).count()
    }

    /// Whether a claim must be granted: all of its keys are free, and nobody is before it who had no chance yet.
    fn may_have(&self, keys: &[usize], ticket: Option<Ticket>) -> bool {
        keys.iter().all(|key| {
            let before = i64::try_from(self.before(*key, ticket)).unwrap();
            let passed_over = || {
                let since = self.free_since(*key);
                since.is_some_and(|since| self.now() - since >= queue::CHANCE_MS * before)
            };
            self.live(*key).is_none() && (before == 0 || passed_over())
        })
    }

    fn try_claim(&mut self, claim: &Claim, keys: &[usize], ticket: Option<Ticket>, by: usize, process: &str) {
        let expected = self.may_have(keys, ticket);
        let (database, upkeep) = self.store.current().unwrap();
        let writer = database.try_writer().unwrap();
        let granting = Granting {
            now: Now::of(&*self.clock),
            durability: Durability::Process,
            process,
            upkeep: &upkeep,
        };
        let answer = match claims::claim(&writer, claim, ticket, &self.dead, granting).unwrap() {
            claims::Attempt::Answer(answer) => answer,
            claims::Attempt::NeedsTokens => panic!("there are enough tokens"),
        };
        drop(writer);
        match answer {
            Claimed::Granted(leases) => {
                assert!(expected, "{leases:?} are granted to {by}");
                assert_eq!(leases.len(), keys.len());
                self.queue.retain(|waiting| Some(waiting.ticket) != ticket);
                self.forget();
                for (lease, key) in leases.into_iter().zip(keys) {
                    self.grant(*key, by, process, &lease);
                }
            }
            Claimed::Refused { key: refused, remaining_ms, ticket: place, .. } => {
                assert!(!expected, "{refused:?} is refused to {by}");
                let index = keys.iter().position(|index| key(*index) == refused).unwrap();
                if self.live(keys[index]).is_none() {
                    assert_eq!(remaining_ms, 0);
                    let now = self.now();
                    if self.is_waited_for(keys[index]) {
                        self.free_since.entry(keys[index]).or_insert(now);
                    }
                }
                if let (None, Some(ticket)) = (ticket, place) {
                    let (keys, process) = (keys.to_vec(), process.to_owned());
                    let until = self.now() + claim.queue_ms;
                    let claim = claim.clone();
                    self.queue.push(Waiting { ticket, claim, keys, agent: by, process, until });
                    self.note_free();
                }
            }
            Claimed::NothingToGiveUp => panic!("nothing was to be given up"),
        }
    }

    fn grant(&mut self, index: usize, by: usize, process: &str, lease: &Lease) {
        let last =
            self.granted.iter().filter(|granted| granted.key == index).map(|granted| granted.fence.token);
        assert!(last.max().is_none_or(|last| lease.fencing_token > last), "token {}", lease.fencing_token);
        let fence = Fence { key: key(index), token: lease.fencing_token, lease_id: lease.lease_id.clone() };
        let deadline = self.now() + DURATION_MS;
        self.newest.insert(index, self.granted.len());
        self.free_since.remove(&index);
        self.granted.push(Granted { key: index, agent: by, process: process.to_owned(), fence, deadline });
    }

    /// Whoever starts to wait notes which of the keys that are waited for are free.
    fn note_free(&mut self) {
        let now = self.now();
        for index in 0..KEYS {
            if !self.newest.contains_key(&index) && self.is_waited_for(index) {
                self.free_since.entry(index).or_insert(now);
            }
        }
    }

    /// The notes are in the rows of those who wait, the dead and the late among them, and go with the last one.
    fn forget(&mut self) {
        let Self { queue, free_since, .. } = self;
        free_since.retain(|index, _| queue.iter().any(|waiting| waiting.keys.contains(index)));
    }

    fn is_waited_for(&self, index: usize) -> bool {
        self.queue.iter().any(|waiting| waiting.keys.contains(&index))
    }

    fn free(&mut self, index: usize) {
        self.newest.remove(&index);
        let now = self.now();
        if self.is_waited_for(index) {
            self.free_since.entry(index).or_insert(now);
        }
    }

    fn take(&mut self, step: &Step) {
        let closing = Closing::default();
        let wait = Wait::new(Patience::Now, &closing);
        match *step {
            Step::Acquire(by, index) => {
                let key = key(index);
                let holder = agent(by);
                let terms = LeaseTerms { holder: &holder, duration_ms: DURATION_MS };
                let claim = Claim { takes_from_the_dead: true, ..Claim::plain(key.as_key(), terms) };
                let process = self.processes[by].clone();
                self.try_claim(&claim, &[index], None, by, &process);
            }
            Step::Claim(by, index, queue_ms) => {
                let keys: Vec<usize> = index.map_or_else(|| (0..KEYS).collect(), |index| vec![index]);
                let claim = Claim {
                    keys: keys.iter().map(|index| key(*index)).collect(),
                    holder: agent(by),
                    duration_ms: DURATION_MS,
                    takes_from_the_dead: true,
                    is_reentrant: false,
                    instead_of: None,
                    queue_ms,
                };
                let process = self.processes[by].clone();
                self.try_claim(&claim, &keys, None, by, &process);
            }
            Step::Retry(n) if !self.queue.is_empty() => {
                let waiting = &self.queue[n % self.queue.len()];
                if waiting.until <= self.now() || self.dead.contains(&waiting.process) {
                    return;
                }
                let (claim, keys, ticket) = (waiting.claim.clone(), waiting.keys.clone(), waiting.ticket);
                let (by, process) = (waiting.agent, waiting.process.clone());
                self.try_claim(&claim, &keys, Some(ticket), by, &process);
            }
            Step::Leave(n) if !self.queue.is_empty() => {
                let waiting = self.queue.remove(n % self.queue.len());
                let (database, _) = self.store.current().unwrap();
                assert!(queue::leave(&database.try_writer().unwrap(), waiting.ticket).unwrap());
                self.forget();
            }
            Step::Release(by, index) => {
                let is_holder =
                    self.newest.get(&index).is_some_and(|newest| self.granted[*newest].agent == by);
                let released = self.store.release(key(index).as_key(), &agent(by), None, wait).unwrap();
                assert_eq!(released, is_holder);
                if released {
                    self.free(index);
                }
            }
            Step::Force(index) => {
                let (by, reason) = ("operator".into(), "stuck".into());
                let released = self.store.force_release(key(index).as_key(), &by, &reason, wait).unwrap();
                assert_eq!(released.is_some(), self.newest.contains_key(&index));
                if released.is_some() {
                    self.free(index);
                    let events = self.store.events_after(0, wait).unwrap();
                    assert_eq!(events.last().map(|event| event.kind), Some(EventKind::ForcedRelease));
                }
            }
            Step::Extend(n) if !self.granted.is_empty() => {
                let n = n % self.granted.len();
                let lease = self.granted[n].clone();
                let extended =
                    self.store.extend(key(lease.key).as_key(), &lease.fence.lease_id, DURATION_MS, wait);
                assert_eq!(extended.unwrap(), self.newest.get(&lease.key) == Some(&n));
                if self.newest.get(&lease.key) == Some(&n) {
                    self.granted[n].deadline = self.now() + DURATION_MS;
                    // It is this process's now, which lives.
                    self.granted[n].process = self.store.presence().unwrap().name().to_owned();
                }
            }
            Step::Fence(n) if !self.granted.is_empty() => {
                let n = n % self.granted.len();
                let lease = &self.granted[n];
                let mut was_let_pass = false;
                let mut work = || {
                    was_let_pass = true;
                    Ok(())
                };
                let passed = self.store.fenced(&lease.fence, &mut work, wait);
                assert_eq!(passed.is_ok(), self.newest.get(&lease.key) == Some(&n));
                assert_eq!(passed.is_ok(), was_let_pass);
            }
            Step::Die(by) => {
                let next = format!("{by}-{}@host", self.dead.len() + 1);
                self.dead.push(std::mem::replace(&mut self.processes[by], next));
            }
            Step::Pass(ms) => self.clock.advance(ms),
            Step::SetClock(ms) => self.clock.step_wall(ms),
            Step::Retry(_) | Step::Leave(_) | Step::Extend(_) | Step::Fence(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_store_keeps_the_protocol(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.take(&step);
        }
    }
}

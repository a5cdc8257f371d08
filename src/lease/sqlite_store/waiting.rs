//! The claims of this process that wait for their turn.
//!
//! SQLite tells nobody that something has changed, so one thread looks, for all waiters of a database in this process:
//! every three milliseconds whether there was a commit, and what it means for them only if there was one, or now and then,
//! since leases also expire. It rests the longer the longer a look took, to cost a hundredth of a core at most. A
//! release in this process wakes it at once.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::changes::Granting;
use super::claims::{self, Attempt};

use super::queue::{self, Place};
use super::statistics::Figure;
use super::term::Now;
use super::upkeep::Upkeep;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::lease::claim::{Answer, Claim, Claimed, Granted, Ticket};
use crate::lease::model::LeaseKey;
use crate::lease::presence::{self, Presence};
use crate::sqlite::{Database, Failure};

/// Between two looks whether there was a commit.
const TICK: Duration = Duration::from_millis(3);
/// Between two looks at everything, commit or not.
const FULL_LOOK: Duration = Duration::from_millis(20);
/// Between two looks whether holders are dead.
const DEATH_LOOK: Duration = Duration::from_millis(50);
/// How many times as long as a look it rests after it.
const REST: u32 = 100;
/// For how long after its time a claim whose last try finds the database locked is tried again.
const LAST_TRIES: Duration = Duration::from_millis(500);
/// How long the thread stays when nobody waits.
const LINGER: Duration = Duration::from_secs(1);

/// A claim in the queue.
pub(super) struct Waiter {
    /// Which store it came by.
    pub(super) owner: u64,
    pub(super) claim: Claim,
    pub(super) durability: Durability,
    pub(super) presence: Arc<Presence>,
    pub(super) until: Instant,
    pub(super) answer: Answer,
}

/// The waiters of a database in this process.
pub(super) struct WaitingRoom {
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Held while waiters are seen to.
    turn: Mutex<()>,
}

#[derive(Default)]
struct Inside {
    waiters: BTreeMap<i64, Waiter>,
    cancelled: Vec<Ticket>,
    /// Places of waiters that have been answered, which couldn't be given up yet.
    left: Vec<Ticket>,
    /// Somebody of this process has changed something.
    is_nudged: bool,
    has_thread: bool,
}

/// What the thread remembers from one look to the next.
struct Memory {
    data_version: Option<i64>,
    full_look: Instant,
    death_look: Instant,
}

impl WaitingRoom {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { inside: Mutex::default(), changed: Condvar::new(), turn: Mutex::default() })
    }

    /// Sees to a claim that has a place in the queue.
    pub(super) fn enter(self: &Arc<Self>, database: &Arc<Database>, ticket: Ticket, waiter: Waiter) {
        let mut inside = self.lock();
        inside.waiters.insert(ticket.0, waiter);
        inside.is_nudged = true;
        if !inside.has_thread {
            let (room, database) = (Arc::clone(self), Arc::downgrade(database));
            let thread = std::thread::Builder::new().name("driftlock-queue".to_owned());
            inside.has_thread = thread.spawn(move || room.work(&database)).is_ok();
            if !inside.has_thread {
                let waiter = inside.waiters.remove(&ticket.0);
                drop(inside);
                if let Some(waiter) = waiter {
                    (waiter.answer)(Err(Error::Defect("the system refused a thread for waiters".to_owned())));
                }
                return;
            }
        }
        drop(inside);
        self.changed.notify_one();
    }

    /// Has a waiter answered with [`Error::Cancelled`], and its place given up.
    pub(super) fn cancel(&self, ticket: Ticket) {
        self.lock().cancelled.push(ticket);
        self.changed.notify_one();
    }

    /// Has all waiters of a store answered with [`Error::Closed`], and their places given up, before it returns.
    pub(super) fn dismiss(&self, owner: u64, database: &Database) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs: Vec<(i64, Waiter)> = {
            let mut inside = self.lock();
            let tickets: Vec<i64> = inside
                .waiters
                .iter()
                .filter(|(_, waiter)| waiter.owner == owner)
                .map(|(id, _)| *id)
                .collect();
            tickets
                .into_iter()
                .filter_map(|id| inside.waiters.remove(&id).map(|waiter| (id, waiter)))
                .collect()
        };
        for (ticket, waiter) in theirs {
            give_up(database, Ticket(ticket));
            (waiter.answer)(Err(Error::Closed));
        }
    }

    /// To be called when this process has released something.
    pub(super) fn nudge(&self) {
        let mut inside = self.lock();
        if !inside.waiters.is_empty() {
            inside.is_nudged = true;
            drop(inside);
            self.changed.notify_one();
        }
    }

    fn work(&self, database: &Weak<Database>) {
        let start = Instant::now();
        let mut memory = Memory { data_version: None, full_look: start, death_look: start };
        let mut idle_since: Option<Instant> = None;
        loop {
            let began = Instant::now();
            // A defect must not leave the others waiting for ever.
            let _ = catch_unwind(AssertUnwindSafe(|| self.look(&mut memory, database)));
            let mut rest = TICK.max(began.elapsed() * REST);
            let mut inside = self.lock();
            if inside.waiters.is_empty() && inside.left.is_empty() {
                rest = LINGER;
                if idle_since.get_or_insert_with(Instant::now).elapsed() > LINGER {
                    inside.has_thread = false;
                    return;
                }
            } else {
                idle_since = None;
            }
            if !inside.is_nudged && inside.cancelled.is_empty() {
                inside = self.changed.wait_timeout(inside, rest).unwrap_or_else(PoisonError::into_inner).0;
            }
            if std::mem::take(&mut inside.is_nudged) {
                memory.data_version = None;
            }
        }
    }

    fn look(&self, memory: &mut Memory, database: &Weak<Database>) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.upgrade() else {
            let waiters = std::mem::take(&mut self.lock().waiters);
            return waiters.into_values().for_each(|waiter| (waiter.answer)(Err(Error::Closed)));
        };
        let left = std::mem::take(&mut self.lock().left);
        for ticket in left {
            self.leave(&database, ticket);
        }
        let cancelled = std::mem::take(&mut self.lock().cancelled);
        for ticket in cancelled {
            let waiter = self.lock().waiters.remove(&ticket.0);
            if let Some(waiter) = waiter {
                self.leave(&database, ticket);
                (waiter.answer)(Err(Error::Cancelled));
            }
        }
        let now = Instant::now();
        let overdue: Vec<i64> =
            self.lock().waiters.iter().filter(|(_, waiter)| waiter.until <= now).map(|(id, _)| *id).collect();
        for ticket in overdue {
            self.try_claim(&database, Ticket(ticket), &[], true);
        }
        for (ticket, dead) in self.promising(memory, &database).unwrap_or_default() {
            self.try_claim(&database, ticket, &dead, false);
        }
    }

    /// The claims that are worth a try now, each with the processes whose death makes it so.
    fn promising(
        &self,
        memory: &mut Memory,
        database: &Arc<Database>,
    ) -> Result<Vec<(Ticket, Vec<String>)>, Failure> {
        let presence = self.lock().waiters.values().next().map(|waiter| Arc::clone(&waiter.presence));
        let Some(presence) = presence else { return Ok(Vec::new()) };
        let reader = database.try_reader().map_err(|_| Failure::Busy)?;
        let version = reader.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if memory.data_version == Some(version) && memory.full_look.elapsed() < FULL_LOOK {
            return Ok(Vec::new());
        }
        let Some(upkeep) = database.attached::<Upkeep>() else { return Ok(Vec::new()) };
        let waiters: Vec<(i64, bool)> = {
            let inside = self.lock();
            inside.waiters.iter().map(|(id, waiter)| (*id, waiter.claim.takes_from_the_dead)).collect()
        };
        let now = Now::of(&*upkeep.clock);
        let places = queue::places(&reader, presence.name(), now)?;
        let looks_for_death = memory.death_look.elapsed() >= DEATH_LOOK;
        memory.data_version = Some(version);
        memory.full_look = Instant::now();
        if looks_for_death {
            memory.death_look = Instant::now();
        }
        let mut promising: Vec<(Ticket, Vec<String>)> = Vec::new();
        let mut seen: Vec<&Place> = Vec::new();
        for place in &places {
            let Some((_, takes_from_the_dead)) = waiters.iter().find(|(id, _)| *id == place.ticket.0) else {
                continue;
            };
            // Of those of this process that wait for a key, one at a time.
            if seen.iter().any(|other| other.task == place.task && other.phase == place.phase) {
                continue;
            }
            let mut dead = Vec::new();
            if place.is_held {
                let holder = place.holder.as_ref().filter(|_| *takes_from_the_dead && looks_for_death);
                match holder.filter(|process| presence::is_dead(database.path(), process)) {
                    Some(process) => dead.push(process.clone()),
                    None => continue,
                }
            }
            let key = LeaseKey { task: &place.task, phase: &place.phase };
            let before = queue::before(&reader, key, Some(place.ticket), now)?;
            let gone = before.iter().filter(|other| presence::is_dead(database.path(), &other.process));
            dead.extend(gone.map(|other| other.process.clone()));
            if dead.is_empty() && !queue::is_passed_over(&before, place.free_for_ms, now) {
                continue;
            }
            seen.push(place);
            // One claim may have several places, and the dead in the way of all of them.
            match promising.iter_mut().find(|(ticket, _)| *ticket == place.ticket) {
                Some((_, all)) => all.extend(dead),
                None => promising.push((place.ticket, dead)),
            }
        }
        Ok(promising)
    }

    fn try_claim(&self, database: &Arc<Database>, ticket: Ticket, dead: &[String], is_last: bool) {
        let Some(waiter) = self.lock().waiters.remove(&ticket.0) else { return };
        let Some(upkeep) = database.attached::<Upkeep>() else { return (waiter.answer)(Err(Error::Closed)) };
        let asked_boot_ms = upkeep.clock.boot_ms();
        let result = match attempt(database, &upkeep, ticket, &waiter, dead) {
            Ok(Claimed::Granted(leases)) => Ok(Granted { leases, asked_boot_ms }),
            Ok(Claimed::Refused { key, holder, .. }) if is_last => {
                upkeep.count_one(Figure::ContentionEvents);
                Err(Error::LeaseHeld { task: key.task, phase: key.phase, holder })
            }
            Ok(Claimed::NothingToGiveUp) => Err(claims::nothing_to_give_up(&waiter.claim)),
            Ok(Claimed::Refused { .. }) => {
                self.lock().waiters.insert(ticket.0, waiter);
                return;
            }
            Err(Error::DatabaseLocked) if !is_last || waiter.until.elapsed() < LAST_TRIES => {
                self.lock().waiters.insert(ticket.0, waiter);
                return;
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.leave(database, ticket);
        }
        (waiter.answer)(result);
    }

    /// Gives up a place, later if it can't be done now.
    fn leave(&self, database: &Database, ticket: Ticket) {
        if !give_up(database, ticket) {
            self.lock().left.push(ticket);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn attempt(
    database: &Arc<Database>,
    upkeep: &Arc<Upkeep>,
    ticket: Ticket,
    waiter: &Waiter,
    dead: &[String],
) -> Result<Claimed> {
    let Ok(writer) = database.try_writer() else { return Err(Error::DatabaseLocked) };
    let try_once = || -> Result<Claimed, Failure> {
        database.remove_doubt(&writer, crate::patience::Patience::Until(Instant::now()))?;
        loop {
            let now = Now::of(&*upkeep.clock);
            let granting =
                Granting { now, durability: waiter.durability, process: waiter.presence.name(), upkeep };
            match claims::claim(&writer, &waiter.claim, Some(ticket), dead, granting)? {
                Attempt::Answer(answer) => return Ok(answer),
                Attempt::NeedsTokens => upkeep.tokens.prepare(&writer, now.boot_id)?,
            }
        }
    };
    let answer = database.noting_failed_sync(try_once());
    if answer.is_ok() {
        database.after_commit(&writer);
    }
    answer.map_err(|failure| failure.at(database.path()))
}

/// Gives up a place, unless the database stays locked; says whether it did. Otherwise it is over with its time, or with
/// this process.
fn give_up(database: &Database, ticket: Ticket) -> bool {
    for _ in 0..20 {
        let Ok(writer) = database.writer() else { return true };
        match queue::leave(&writer, ticket) {
            Err(Failure::Busy) => {}
            _ => return true,
        }
        drop(writer);
        std::thread::sleep(TICK);
    }
    false
}

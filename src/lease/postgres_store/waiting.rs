//! The claims of this process that wait for their turn.
//!
//! One thread sees to all of them. It asks the server for the places of this process by one request, and tries only the
//! claims that may succeed. It does so when the server notifies this process (see `listening`), when somebody in this
//! process has released something, when the server has said that it would be time, and now and then.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postgres_types::Type;

use super::claims::{self, Request};
use super::figures;
use super::listening;
use super::rows::value;
use super::server::Server;
use super::tally::Count;
use crate::error::{Error, Result};
use crate::lease::claim::{Answer, Claimed, Granted, Ticket};
use crate::lease::presence::Presence;

/// The longest time between two looks while the server's notifications come.
const NOTIFIED_LOOK: Duration = Duration::from_secs(1);
/// The shortest and the longest one while they don't.
const POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Between two looks whether somebody in the way is dead.
const DEATH_LOOK: Duration = Duration::from_millis(50);
/// How long one request waits for the server: others wait behind it.
const PATIENCE: Duration = Duration::from_secs(1);
/// For how long after its time a claim whose last try got no answer is tried again.
const LAST_TRIES: Duration = Duration::from_millis(500);
/// For how long it is tried to take back what nobody waits for any more.
const GIVING_UP: Duration = Duration::from_secs(60);
/// How long the thread stays when nobody waits.
const LINGER: Duration = Duration::from_secs(1);

/// A claim in the queue.
struct Waiter {
    request: Request,
    presence: Arc<Presence>,
    /// Set once its store is closed.
    closed: Arc<AtomicBool>,
    until: Instant,
    answer: Answer,
    /// Before this moment no try can do better than the last one, as the server said.
    not_before: Instant,
    /// When the first of the tries was made whose outcome isn't known, by the boot clock.
    asked_boot_ms: Option<i64>,
}

/// The waiters of this process at one server.
pub(super) struct WaitingRoom {
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Whether the server's notifications come.
    pub(super) is_notified: AtomicBool,
    /// Whether a thread listens for them, or is about to.
    pub(super) is_listening: AtomicBool,
}

#[derive(Default)]
struct Inside {
    /// Claims with a place, which nobody awaits yet.
    expected: HashMap<i64, Request>,
    waiters: BTreeMap<i64, Waiter>,
    cancelled: Vec<Ticket>,
    /// What has to be taken back, and until when that is tried.
    left: Vec<(Request, Instant)>,
    is_nudged: bool,
    has_thread: bool,
}

/// A place of this process in a queue.
struct Place {
    ticket: i64,
    due: Instant,
    /// The process that has the key, if it is one of this machine.
    holder: Option<String>,
    before: Vec<String>,
}

impl WaitingRoom {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            inside: Mutex::default(),
            changed: Condvar::new(),
            is_notified: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
        })
    }

    /// Keeps a claim that has got a place.
    pub(super) fn expect(&self, ticket: Ticket, request: Request) {
        self.lock().expected.insert(ticket.0, request);
    }

    /// The claim of this ticket.
    pub(super) fn expected(&self, ticket: Ticket) -> Option<Request> {
        self.lock().expected.remove(&ticket.0)
    }

    /// Has a waiter answered with [`Error::Cancelled`], and its place given up.
    pub(super) fn cancel(&self, ticket: Ticket) {
        self.lock().cancelled.push(ticket);
        self.changed.notify_one();
    }

    /// Has all waiters of a store answered with [`Error::Closed`]; their places are given up soon after.
    pub(super) fn dismiss(&self, closed: &Arc<AtomicBool>) {
        let theirs: Vec<Waiter> = {
            let mut inside = self.lock();
            let tickets: Vec<i64> = inside
                .waiters
                .iter()
                .filter(|(_, waiter)| Arc::ptr_eq(&waiter.closed, closed))
                .map(|(ticket, _)| *ticket)
                .collect();
            tickets.into_iter().filter_map(|ticket| inside.waiters.remove(&ticket)).collect()
        };
        for waiter in theirs {
            self.leave(waiter.request);
            (waiter.answer)(Err(Error::Closed));
        }
        self.changed.notify_one();
    }

    /// To be called when something may have become free.
    pub(super) fn nudge(&self) {
        let mut inside = self.lock();
        if !inside.waiters.is_empty() {
            inside.is_nudged = true;
            drop(inside);
            self.changed.notify_one();
        }
    }

    /// Whether somebody waits.
    pub(super) fn is_in_use(&self) -> bool {
        !self.lock().waiters.is_empty()
    }

    fn leave(&self, request: Request) {
        self.lock().left.push((request, Instant::now() + GIVING_UP));
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to a claim that has a place in the queue.
pub(super) fn enter(
    server: &Arc<Server>,
    ticket: Ticket,
    request: Request,
    presence: Arc<Presence>,
    closed: Arc<AtomicBool>,
    answer: Answer,
) {
    let now = Instant::now();
    let until = now + Duration::from_millis(u64::try_from(request.claim.queue_ms).unwrap_or(0));
    let waiter = Waiter { request, presence, closed, until, answer, not_before: now, asked_boot_ms: None };
    let mut inside = server.room.lock();
    inside.waiters.insert(ticket.0, waiter);
    inside.is_nudged = true;
    if !has_thread(server, &mut inside) {
        let waiter = inside.waiters.remove(&ticket.0);
        drop(inside);
        if let Some(waiter) = waiter {
            (waiter.answer)(Err(Error::Defect("the system refused a thread for waiters".to_owned())));
        }
        return;
    }
    drop(inside);
    server.room.changed.notify_one();
    listening::start(server);
}

/// Takes back a request that nobody awaits any more, and that may have been granted or may still be.
pub(super) fn take_back(server: &Arc<Server>, request: Request) {
    server.room.leave(request);
    // Without a thread the lease lasts until its end.
    has_thread(server, &mut server.room.lock());
    server.room.changed.notify_one();
}

/// Sees to it that there is a thread; false if the system refuses it.
fn has_thread(server: &Arc<Server>, inside: &mut Inside) -> bool {
    if !inside.has_thread {
        let server = Arc::clone(server);
        let thread = std::thread::Builder::new().name("driftlock-queue".to_owned());
        inside.has_thread = thread.spawn(move || work(&server)).is_ok();
    }
    inside.has_thread
}

fn work(server: &Arc<Server>) {
    let mut places: Vec<Place> = Vec::new();
    let mut next_look = Instant::now();
    let mut poll = POLL.0;
    let mut idle_since: Option<Instant> = None;
    loop {
        let room = &server.room;
        let is_nudged = std::mem::take(&mut room.lock().is_nudged);
        // A defect must not leave the others waiting for ever.
        let turn = catch_unwind(AssertUnwindSafe(|| {
            see_to_the_leaving(server);
            if is_nudged || next_look <= Instant::now() {
                poll = if is_nudged { POLL.0 } else { (poll * 2).min(POLL.1) };
                let longest = if room.is_notified.load(Ordering::Acquire) { NOTIFIED_LOOK } else { poll };
                next_look = Instant::now() + longest;
                if is_nudged {
                    room.lock().waiters.values_mut().for_each(|waiter| waiter.not_before = Instant::now());
                }
                places = look(server).unwrap_or_default();
            }
            let granted = try_the_promising(server, &places);
            if granted {
                next_look = Instant::now();
            }
        }));
        if turn.is_err() {
            next_look = Instant::now() + POLL.1;
        }
        let mut inside = room.lock();
        let mut wake = next_look;
        for (ticket, waiter) in &inside.waiters {
            wake = wake.min(waiter.until);
            if let Some(place) = places.iter().find(|place| place.ticket == *ticket) {
                wake = wake.min(place.due.max(waiter.not_before));
            }
        }
        let watches = places.iter().any(|place| place.holder.is_some() || !place.before.is_empty());
        if watches {
            wake = wake.min(Instant::now() + DEATH_LOOK);
        }
        if inside.waiters.is_empty() && inside.left.is_empty() {
            if idle_since.get_or_insert_with(Instant::now).elapsed() > LINGER {
                inside.has_thread = false;
                return;
            }
            wake = Instant::now() + LINGER;
        } else {
            idle_since = None;
        }
        if !inside.is_nudged && inside.cancelled.is_empty() {
            let rest = wake.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            drop(room.changed.wait_timeout(inside, rest).unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Takes back what is given up, and answers those who are cancelled or whose time is over.
fn see_to_the_leaving(server: &Arc<Server>) {
    let room = &server.room;
    let cancelled = std::mem::take(&mut room.lock().cancelled);
    for ticket in cancelled {
        let (waiter, expected) = {
            let mut inside = room.lock();
            (inside.waiters.remove(&ticket.0), inside.expected.remove(&ticket.0))
        };
        if let Some(request) = expected {
            room.leave(request);
        }
        if let Some(waiter) = waiter {
            room.leave(waiter.request);
            (waiter.answer)(Err(Error::Cancelled));
        }
    }
    let now = Instant::now();
    let overdue: Vec<i64> = room
        .lock()
        .waiters
        .iter()
        .filter(|(_, waiter)| waiter.until <= now)
        .map(|(ticket, _)| *ticket)
        .collect();
    for ticket in overdue {
        try_claim(server, Ticket(ticket), &[], true);
    }
    let mut left = std::mem::take(&mut room.lock().left);
    while let Some((request, _)) = left.last() {
        let deadline = Instant::now() + PATIENCE;
        let given_up =
            server.pool.repeat(|| deadline, || Ok(()), |mut attempt| request.give_up(server, &mut attempt));
        if matches!(given_up, Err(Error::ServerUnreachable { .. })) {
            break;
        }
        left.pop();
    }
    // The server may be there again for the rest in the next turn.
    left.retain(|(_, until)| Instant::now() < *until);
    room.lock().left.append(&mut left);
}

/// The first place of this process at each key that it waits for.
fn look(server: &Server) -> Result<Vec<Place>> {
    let process = server.room.lock().waiters.values().next().map(|waiter| Arc::clone(&waiter.presence));
    let Some(process) = process else { return Ok(Vec::new()) };
    let (process, boot_id) = (process.name(), server.clock.boot_id());
    let deadline = Instant::now() + PATIENCE;
    server.pool.repeat(
        || deadline,
        || Ok(()),
        |attempt| {
            let parameters = &[(&process as _, Type::TEXT), (&boot_id as _, Type::TEXT)];
            let rows = server.function(attempt.session, "places_1", parameters, attempt.deadline)?;
            let now = Instant::now();
            rows.iter()
                .map(|row| {
                    let retry_ms = u64::try_from(value::<i64>(row, "r_retry_ms")?).unwrap_or(0);
                    let holder: Option<String> = value(row, "r_holder")?;
                    Ok(Place {
                        ticket: value(row, "r_ticket")?,
                        due: now + Duration::from_millis(retry_ms),
                        holder: holder.filter(|holder| holder != process),
                        before: value::<Vec<String>>(row, "r_before")?
                            .into_iter()
                            .filter(|before| before != process)
                            .collect(),
                    })
                })
                .collect()
        },
    )
}

/// Tries the claims that may succeed now; whether one was granted.
fn try_the_promising(server: &Arc<Server>, places: &[Place]) -> bool {
    // One claim may have several places, and the dead in the way of all of them.
    let mut promising: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for place in places {
        let (takes_from_the_dead, not_before) = {
            let inside = server.room.lock();
            let Some(waiter) = inside.waiters.get(&place.ticket) else { continue };
            (waiter.request.claim.takes_from_the_dead, waiter.not_before)
        };
        let holder = place.holder.iter().filter(|_| takes_from_the_dead);
        let dead: Vec<String> =
            holder.chain(&place.before).filter(|process| server.is_dead(process)).cloned().collect();
        if !dead.is_empty() || place.due.max(not_before) <= Instant::now() {
            promising.entry(place.ticket).or_default().extend(dead);
        }
    }
    let mut is_granted = false;
    for (ticket, dead) in promising {
        is_granted |= try_claim(server, Ticket(ticket), &dead, false);
    }
    is_granted
}

/// Tries one claim; whether it was granted.
fn try_claim(server: &Arc<Server>, ticket: Ticket, dead: &[String], is_last: bool) -> bool {
    let room = &server.room;
    let Some(mut waiter) = room.lock().waiters.remove(&ticket.0) else { return false };
    let asked_boot_ms = *waiter.asked_boot_ms.get_or_insert_with(|| server.clock.boot_ms());
    let deadline = Instant::now() + PATIENCE;
    let request = &waiter.request;
    let reply = server.pool.repeat(
        || deadline,
        || Ok(()),
        |mut attempt| request.send(server, &mut attempt, Some(ticket), dead, waiter.presence.name()),
    );
    let result = match reply {
        Ok(reply) => match reply.claimed {
            Claimed::Granted(_) if waiter.closed.load(Ordering::Acquire) => Err(Error::Closed),
            Claimed::Granted(leases) => {
                let claimed = Claimed::Granted(leases.clone());
                request.note(server, &claimed, asked_boot_ms);
                figures::count(server, Count::Acquired, leases.len() as u64);
                Ok(Granted { leases, asked_boot_ms })
            }
            Claimed::NothingToGiveUp => Err(claims::nothing_to_give_up(&request.claim)),
            Claimed::Refused { key, holder, .. } if is_last => {
                figures::count(server, Count::Contention, 1);
                Err(Error::LeaseHeld { task: key.task, phase: key.phase, holder })
            }
            Claimed::Refused { .. } => {
                // What the server said goes for what was held then, which may have been given back since.
                let retry = Duration::from_millis(u64::try_from(reply.retry_ms).unwrap_or(0));
                waiter.not_before = Instant::now() + retry.min(POLL.1);
                waiter.asked_boot_ms = None;
                return put_back(room, ticket, waiter);
            }
        },
        Err(Error::ServerUnreachable { .. }) if !is_last || waiter.until.elapsed() < LAST_TRIES => {
            waiter.not_before = Instant::now() + POLL.1;
            return put_back(room, ticket, waiter);
        }
        Err(error) => Err(error),
    };
    let is_granted = result.is_ok();
    if !is_granted {
        room.leave(waiter.request);
    }
    (waiter.answer)(result);
    is_granted
}

/// Leaves a claim waiting, unless its store was closed meanwhile; false.
fn put_back(room: &WaitingRoom, ticket: Ticket, waiter: Waiter) -> bool {
    let mut inside = room.lock();
    if waiter.closed.load(Ordering::Acquire) {
        drop(inside);
        room.leave(waiter.request);
        (waiter.answer)(Err(Error::Closed));
    } else {
        inside.waiters.insert(ticket.0, waiter);
    }
    false
}

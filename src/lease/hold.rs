//! Leases that are renewed for their holder until it gives them up.
//!
//! A hold's deadline is counted from before each request was sent (as in Gray and Cheriton, "Leases", SOSP 1989), on the
//! clock that counts while the machine sleeps, so it is never later than the one that others see. The holder is told a
//! little before it, whatever has kept the renewals from succeeding.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::claim::{Fence, OwnedKey};
use super::keeper;
use super::model::Lease;
use super::patience::{Closing, Patience, Wait};
use super::store::{LeaseStore, Request};
use crate::clock::{Clock, iso_timestamp};
use crate::error::{Error, Result};
use crate::metrics::{self, Renewal};
use crate::runtime::runtime;
use crate::text::Text;

/// How long one try at a renewal waits for others; another one follows.
const RENEWAL_PATIENCE: Duration = Duration::from_millis(20);
/// How long one waits at most for an answer over the network.
const REMOTE_PATIENCE: Duration = Duration::from_secs(5);
/// The first and the longest pause before another try, in milliseconds.
const RETRY_MS: (i64, i64) = (10, 200);
/// The longest time before a deadline at which the holder is told, in milliseconds.
const LONGEST_MARGIN_MS: i64 = 1000;

/// Between two looks whether it is still there, in milliseconds: an operator may have released it.
const LOOK_MS: i64 = 1000;
/// How many looks there are in a lease's duration at most, where each is a request: else a server of many long leases would
/// do little else than answer them.
const REMOTE_LOOKS: i64 = 60;
/// For how long a lease that is gone while it is being exchanged may have been handed over, in milliseconds.
const EXCHANGE_MS: i64 = 50;

/// Called once, from the keeper's thread, when a hold is lost.
pub type OnLost = Box<dyn FnOnce(&Error) + Send>;

/// Within what bounds a lease is held.
#[derive(Debug, Clone, Copy)]
pub struct HoldTerms {
    /// How long the lease lasts from one renewal to the next at most, in milliseconds; positive.
    pub duration_ms: i64,
    /// After how many milliseconds it ends for good; positive.
    pub max_hold_ms: i64,
    /// Within how many milliseconds the holder must say that it gets on, each time, if it must.
    pub progress_ms: Option<i64>,
}

/// A lease that is held.
pub struct Hold {
    store: Arc<dyn LeaseStore>,
    clock: Arc<dyn Clock>,
    key: OwnedKey,
    lease_id: String,
    agent_id: Text,
    token: i64,
    acquired_at: String,
    terms: HoldTerms,
    state: Mutex<State>,
}

struct State {
    standing: Standing,
    /// All by the boot clock, in milliseconds.
    deadline: i64,
    end: i64,
    progress_due: Option<i64>,
    next_renewal: i64,
    next_check: i64,
    retry_ms: i64,
    expires_at: String,
    last_failure: Option<String>,
    on_lost: Option<OnLost>,
    /// How many claims want to give it up in exchange.
    exchanges: u32,
    /// Since when it is gone, which an exchange may explain.
    gone_since: Option<i64>,
    /// Whether an answer over the network is awaited.
    is_asking: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Held,
    Lost,
    Released,
}

impl Hold {
    /// Takes charge of a lease that was asked for at `asked_ms`, by the boot clock.
    pub(super) fn new(
        store: Arc<dyn LeaseStore>,
        clock: Arc<dyn Clock>,
        lease: Lease,
        terms: HoldTerms,
        asked_ms: i64,
        on_lost: OnLost,
    ) -> Arc<Self> {
        let first_ms = terms.duration_ms.min(terms.max_hold_ms);
        let state = State {
            standing: Standing::Held,
            deadline: asked_ms.saturating_add(first_ms),
            end: asked_ms.saturating_add(terms.max_hold_ms),
            progress_due: terms.progress_ms.map(|ms| clock.boot_ms().saturating_add(ms)),
            next_renewal: asked_ms.saturating_add(first_ms / 3),
            next_check: asked_ms.saturating_add(look_ms(&*store, terms)),
            retry_ms: RETRY_MS.0,
            expires_at: lease.expires_at,
            last_failure: None,
            on_lost: Some(on_lost),
            exchanges: 0,
            gone_since: None,
            is_asking: false,
        };
        Arc::new(Self {
            store,
            clock,
            key: OwnedKey { task: lease.task_id, phase: lease.phase },
            lease_id: lease.lease_id,
            agent_id: lease.agent_id,
            token: lease.fencing_token,
            acquired_at: lease.acquired_at,
            terms,
            state: Mutex::new(state),
        })
    }

    /// What proves the hold to whoever writes for it.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { key: self.key.clone(), token: self.token, lease_id: self.lease_id.clone() }
    }

    /// When the lease was acquired: wall time, ISO 8601.
    #[must_use]
    pub fn acquired_at(&self) -> &str {
        &self.acquired_at
    }

    /// When the lease ends unless it is renewed again: wall time, ISO 8601.
    #[must_use]
    pub fn expires_at(&self) -> String {
        self.lock().expires_at.clone()
    }

    /// For how many milliseconds nobody else can get in, as far as this process knows; 0 once it is lost or released.
    #[must_use]
    pub fn remaining_ms(&self) -> i64 {
        let state = self.lock();
        match state.standing {
            Standing::Held => state.deadline.saturating_sub(self.clock.boot_ms()).max(0),
            Standing::Lost | Standing::Released => 0,
        }
    }

    /// Says that the holder gets on.
    pub fn progress(&self) {
        let due = self.terms.progress_ms.map(|ms| self.clock.boot_ms().saturating_add(ms));
        self.lock().progress_due = due;
        keeper::wake();
    }

    /// Gives the lease up; says whether it was still this holder's, also if it had ended. A second time answers false.
    pub fn release(&self, patience: Patience) -> Result<bool> {
        if !self.end_renewals() {
            return Ok(false);
        }
        let closing = Closing::default();
        let (key, wait) = (self.key.as_key(), Wait::new(patience, &closing));
        self.store.release(key, &self.agent_id, Some(&self.lease_id), wait)
    }

    /// Takes the lease out of the keeper's hands; says whether it was there.
    pub(super) fn end_renewals(&self) -> bool {
        let mut state = self.lock();
        let was = std::mem::replace(&mut state.standing, Standing::Released);
        state.on_lost = None;
        was != Standing::Released
    }

    /// Says that a claim wants to give it up: being gone may mean that it was granted.
    pub(super) fn begin_exchange(&self) {
        self.lock().exchanges += 1;
    }

    /// Says that the claim has been answered.
    pub(super) fn end_exchange(&self) {
        self.lock().exchanges -= 1;
    }

    /// Whether the keeper still has to see to it.
    pub(super) fn is_kept(&self) -> bool {
        self.lock().standing == Standing::Held
    }

    /// When to see to it next, in milliseconds by the boot clock.
    pub(super) fn next_look(&self) -> i64 {
        let state = self.lock();
        let told_at = state.deadline.saturating_sub(self.margin_ms());
        if state.is_asking {
            return told_at.min(state.progress_due.unwrap_or(i64::MAX));
        }
        state.next_renewal.min(state.next_check).min(told_at).min(state.progress_due.unwrap_or(i64::MAX))
    }

    /// Renews it if it is time to, and notices if it is lost.
    pub(super) fn see_to(self: &Arc<Self>) {
        let now = self.clock.boot_ms();
        if !self.is_kept() {
            return;
        }
        let is_hung = self.lock().progress_due.is_some_and(|due| due <= now);
        if is_hung {
            return self.lose("no progress was made in time");
        }
        if !self.store.is_remote() {
            self.ask();
        } else if !std::mem::replace(&mut self.lock().is_asking, true) {
            // The holder has to be told in time, here, whatever keeps the answer.
            let hold = Arc::clone(self);
            runtime().spawn_blocking(move || {
                let _ = catch_unwind(AssertUnwindSafe(|| hold.ask()));
                hold.lock().is_asking = false;
                keeper::wake();
            });
        }
        if !self.is_in_time(self.clock.boot_ms()) {
            let state = self.lock();
            let cause = match (&state.last_failure, state.deadline >= state.end) {
                (_, true) => "the longest time for which it may be held is over".to_owned(),
                (Some(failure), _) => format!("it could not be renewed in time: {failure}"),
                (None, _) if state.is_asking => "it could not be renewed in time: no answer came".to_owned(),
                (None, _) => "the process did not run for too long to renew it".to_owned(),
            };
            drop(state);
            self.lose(&cause);
        }
    }

    /// Renews it, or looks whether it is still there, if it is time to.
    fn ask(&self) {
        let now = self.clock.boot_ms();
        let (due, end, is_short) = {
            let state = self.lock();
            (state.next_renewal, state.end, state.deadline < state.end)
        };
        if now >= due && is_short && self.is_in_time(now) {
            self.renew(now, end);
        } else if now >= self.lock().next_check {
            self.check();
        }
    }

    /// For how long one try waits: over the network no longer than the answer is of use.
    fn patience(&self, now: i64) -> Patience {
        if !self.store.is_remote() {
            return Patience::lasting(RENEWAL_PATIENCE);
        }
        let left = self.lock().deadline.saturating_sub(now).max(1);
        Patience::lasting(Duration::from_millis(left.unsigned_abs()).min(REMOTE_PATIENCE))
    }

    fn renew(&self, now: i64, end: i64) {
        let duration = self.terms.duration_ms.min(end.saturating_sub(now));
        let closing = Closing::default();
        let wait = Wait::new(self.patience(now), &closing);
        let expires_ms = self.clock.wall_ms().saturating_add(duration);
        let extended = self.store.extend(self.key.as_key(), &self.lease_id, duration, wait);
        metrics::renewal(match extended {
            Ok(true) => Renewal::Renewed,
            Ok(false) => Renewal::Refused,
            Err(_) => Renewal::Error,
        });
        if extended.is_err() {
            self.store.count_failure(Request::Renewal);
        }
        let mut state = self.lock();
        match extended {
            Ok(true) => {
                state.deadline = now.saturating_add(duration);
                state.expires_at = iso_timestamp(expires_ms);
                state.next_renewal =
                    if state.deadline >= end { i64::MAX } else { now.saturating_add(duration / 3) };
                state.retry_ms = RETRY_MS.0;
                state.last_failure = None;
            }
            Ok(false) => {
                state.next_renewal = now.saturating_add(EXCHANGE_MS);
                drop(state);
                self.check();
            }
            // It may have been done all the same: doing it again is as good.
            Err(error) => {
                state.last_failure = Some(error.to_string());
                state.next_renewal = self.clock.boot_ms().saturating_add(state.retry_ms);
                state.retry_ms = (state.retry_ms * 2).min(RETRY_MS.1);
            }
        }
    }

    /// Notices if somebody else has ended it.
    fn check(&self) {
        let now = self.clock.boot_ms();
        self.lock().next_check = now.saturating_add(look_ms(&*self.store, self.terms));
        let closing = Closing::default();
        let wait = Wait::new(self.patience(now), &closing);
        let cause = match self.store.get(self.key.as_key(), wait) {
            Ok(Some(lease)) if lease.lease_id == self.lease_id => return,
            Ok(Some(lease)) => {
                let (agent, token) = (lease.agent_id, lease.fencing_token);
                format!("{agent} has taken it over, with token {token}")
            }
            Ok(None) => "somebody else has released it, or has had it since".to_owned(),
            // The next look or renewal will tell.
            Err(_) => return,
        };
        let mut state = self.lock();
        let gone_since = *state.gone_since.get_or_insert(now);
        if state.exchanges > 0 && now.saturating_sub(gone_since) < EXCHANGE_MS {
            state.next_check = now.saturating_add(EXCHANGE_MS);
            return;
        }
        drop(state);
        self.lose(&cause);
    }

    fn is_in_time(&self, now: i64) -> bool {
        now < self.lock().deadline.saturating_sub(self.margin_ms())
    }

    fn margin_ms(&self) -> i64 {
        (self.terms.duration_ms / 10).clamp(1, LONGEST_MARGIN_MS)
    }

    fn lose(&self, cause: &str) {
        let on_lost = {
            let mut state = self.lock();
            if state.standing != Standing::Held {
                return;
            }
            state.standing = Standing::Lost;
            state.on_lost.take()
        };
        let OwnedKey { task, phase } = self.key.clone();
        let error = Error::LeaseLost { task, phase, cause: cause.to_owned() };
        metrics::error(&error);
        if let Some(on_lost) = on_lost {
            on_lost(&error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Between two looks whether a lease is still there, in milliseconds.
fn look_ms(store: &dyn LeaseStore, terms: HoldTerms) -> i64 {
    if store.is_remote() { LOOK_MS.max(terms.duration_ms / REMOTE_LOOKS) } else { LOOK_MS }
}

/// The holds of a manager, released with it.
#[derive(Default)]
pub(super) struct Holds(Mutex<Vec<Weak<Hold>>>);

impl Holds {
    pub(super) fn add(&self, hold: &Arc<Hold>) {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holds.retain(|hold| hold.upgrade().is_some_and(|hold| hold.is_kept()));
        holds.push(Arc::downgrade(hold));
    }

    /// Gives all of them up, as far as the store lets that happen within `patience`.
    pub(super) fn release(&self, patience: Patience) {
        let holds = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for hold in holds.iter().filter_map(Weak::upgrade) {
            let _ = hold.release(patience);
        }
    }
}

//! Asking for leases to hold, and waiting for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::claim::{Claimed, Granted, OwnedKey, Ticket};
use super::hold::{Hold, HoldTerms, Holds};
use super::keeper;
use super::manager::LeaseManager;
use super::patience::Patience;
use super::store::{LeaseStore, Request};
use crate::clock::Clock;
use crate::error::{Error, Result};

/// How long giving up what nobody wants any more may wait for others.
const GIVING_UP: Duration = Duration::from_secs(1);

/// What is to be held: all of the keys, or none.
pub struct HoldRequest {
    /// At least one; no key twice.
    pub keys: Vec<OwnedKey>,
    /// For how long to wait for them, in milliseconds; 0 not to.
    pub wait_ms: i64,
    /// Within what bounds they are held.
    pub terms: HoldTerms,
    /// A hold of this agent that is given up in the same step.
    pub instead_of: Option<Arc<Hold>>,
    /// Called when one of them is lost, with its position and why; from another thread.
    pub on_lost: OnOneLost,
}

/// Called with the position of a lease that is lost, and why.
pub type OnOneLost = Arc<dyn Fn(usize, &Error) + Send + Sync>;

/// Called once, with what is held now, or why nothing is; perhaps from another thread.
pub type HoldAnswer = Box<dyn FnOnce(Result<Vec<Arc<Hold>>>) + Send>;

/// Lets a request be cancelled.
#[derive(Default)]
pub struct Cancellation {
    is_cancelled: AtomicBool,
    waits_at: Mutex<Option<(Arc<dyn LeaseStore>, Ticket)>>,
}

impl Cancellation {
    /// Has the request answered with [`Error::Cancelled`], unless it has been answered.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::SeqCst);
        if let Some((store, ticket)) = &*self.waits_at.lock().unwrap_or_else(PoisonError::into_inner) {
            store.cancel(*ticket);
        }
    }

    fn check(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::SeqCst) { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn waits(&self, store: &Arc<dyn LeaseStore>, ticket: Ticket) {
        *self.waits_at.lock().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(store), ticket));
        if self.check().is_err() {
            store.cancel(ticket);
        }
    }
}

impl LeaseManager {
    /// Acquires leases and keeps them renewed until they are released, waiting for them in the queue if asked to.
    ///
    /// `patience` is for the store alone. Waiting goes on in the background.
    pub fn hold(
        &self,
        request: HoldRequest,
        patience: Patience,
        cancellation: &Arc<Cancellation>,
        answer: HoldAnswer,
    ) {
        let HoldRequest { keys, wait_ms, terms, instead_of, on_lost } = request;
        let answer = exchanging(instead_of.clone(), answer);
        let mut claim = self.new_claim(keys);
        claim.duration_ms = terms.duration_ms.min(terms.max_hold_ms);
        claim.instead_of = instead_of.as_ref().map(|hold| {
            let fence = hold.fence();
            (fence.key, Some(fence.lease_id))
        });
        claim.queue_ms = wait_ms;
        let (store, clock, holds) = (Arc::clone(self.store()), Arc::clone(self.clock()), self.kept());
        let answer = counting(Arc::clone(&store), answer);
        let asked_boot_ms = clock.boot_ms();
        let claimed = cancellation
            .check()
            .and_then(|()| self.wait(patience))
            .and_then(|wait| store.claim(&claim, wait));
        let given_up = claim.instead_of.clone();
        let take = {
            let (store, cancellation) = (Arc::clone(&store), Arc::clone(cancellation));
            move |granted| {
                if let Some(hold) = &instead_of {
                    hold.end_renewals();
                }
                take_charge(granted, &store, &clock, &holds, terms, &on_lost, &cancellation)
            }
        };
        match claimed {
            Ok(Claimed::Granted(leases)) => answer(take(Granted { leases, asked_boot_ms })),
            Ok(Claimed::Refused { ticket: Some(ticket), .. }) => {
                store.await_turn(ticket, claim, Box::new(move |granted| answer(granted.and_then(take))));
                cancellation.waits(&store, ticket);
            }
            Ok(Claimed::Refused { key, holder, .. }) => {
                answer(Err(Error::LeaseHeld { task: key.task, phase: key.phase, holder }));
            }
            Ok(Claimed::NothingToGiveUp) => answer(Err(not_held(given_up))),
            Err(error) => answer(Err(error)),
        }
    }
}

/// Has the store count an answer that is a failure: not one that others or the caller wanted.
fn counting(store: Arc<dyn LeaseStore>, answer: HoldAnswer) -> HoldAnswer {
    Box::new(move |held| {
        match &held {
            Ok(_) | Err(Error::LeaseHeld { .. } | Error::LeaseLost { .. } | Error::Cancelled) => {}
            Err(_) => store.count_failure(Request::Acquisition),
        }
        answer(held);
    })
}

/// Has a hold that is to be given up know of it until the claim is answered.
fn exchanging(instead_of: Option<Arc<Hold>>, answer: HoldAnswer) -> HoldAnswer {
    let Some(hold) = instead_of else { return answer };
    hold.begin_exchange();
    Box::new(move |held| {
        hold.end_exchange();
        answer(held);
    })
}

fn not_held(given_up: Option<(OwnedKey, Option<String>)>) -> Error {
    match given_up {
        Some((OwnedKey { task, phase }, _)) => {
            Error::LeaseLost { task, phase, cause: "it is not held by this agent".to_owned() }
        }
        None => Error::Defect("nothing was to be given up".to_owned()),
    }
}

fn take_charge(
    granted: Granted,
    store: &Arc<dyn LeaseStore>,
    clock: &Arc<dyn Clock>,
    holds: &Holds,
    terms: HoldTerms,
    on_lost: &OnOneLost,
    cancellation: &Cancellation,
) -> Result<Vec<Arc<Hold>>> {
    let made: Vec<Arc<Hold>> = granted
        .leases
        .into_iter()
        .enumerate()
        .map(|(position, lease)| {
            let on_lost = Arc::clone(on_lost);
            let on_lost = Box::new(move |error: &Error| on_lost(position, error));
            let (store, clock) = (Arc::clone(store), Arc::clone(clock));
            Hold::new(store, clock, lease, terms, granted.asked_boot_ms, on_lost)
        })
        .collect();
    let kept = cancellation.check().and_then(|()| {
        made.iter().try_for_each(|hold| {
            holds.add(hold);
            keeper::keep(Arc::clone(hold), Arc::clone(clock))
        })
    });
    if let Err(error) = kept {
        for hold in made {
            let _ = hold.release(Patience::lasting(GIVING_UP));
        }
        return Err(error);
    }
    Ok(made)
}

//! Who holds what, wherever that is kept.

use std::time::Instant;

use super::claim::{Answer, Claim, Claimed, Fence, LeaseEvent, ListedLease, Ticket};
use super::model::{Acquisition, Lease, LeaseKey, LeaseStats, LeaseTotals, Renewal, StoreHealth};
use super::patience::Wait;
use crate::error::Result;
use crate::text::Text;

/// What a holder asks for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTerms<'a> {
    /// Who asks.
    pub holder: &'a Text,
    /// How long the lease is to last, in milliseconds from when the store grants it; positive.
    pub duration_ms: i64,
}

/// What somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// A lease, or several.
    Acquisition,
    /// That a lease lasts longer.
    Renewal,
}

/// A shared record of leases.
///
/// The store decides by its own idea of time whether a lease has expired, the same for all who use it, and decides
/// each call as a whole: of any number of calls at the same time, each sees the others done or not begun.
///
/// A call that can't be done now waits as its [`Wait`] says. A store that can't tell whether it would block treats
/// [`Patience::Now`](super::Patience::Now) as a call that would.
///
/// Those who queue for a key get it in the order in which they came. A claim that others are before is refused while the
/// key is free, until it has been free for 50 ms for each of them: then they had their chance. Whoever's process is
/// known to be dead loses its place.
pub trait LeaseStore: Send + Sync {
    /// The server that this is on, without credentials; `None` for a store of this machine's.
    fn server(&self) -> Option<String> {
        None
    }

    /// Whether calls wait for a network. Nobody who sees to several leases may wait for the answer about one.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether a call has failed since `moment` for want of an answer: those that waited behind it need not wait as long.
    fn is_silent_since(&self, _moment: Instant) -> bool {
        false
    }

    /// Grants the lease unless somebody holds it who has not expired, or is waiting for it.
    fn acquire(&self, key: LeaseKey<'_>, terms: LeaseTerms<'_>, wait: Wait<'_>) -> Result<Acquisition>;

    /// Grants all keys of a claim, or queues it, or refuses it.
    fn claim(&self, claim: &Claim, wait: Wait<'_>) -> Result<Claimed>;

    /// Sees to a queued claim until it is granted, its time is over or it is cancelled, and then answers: with
    /// [`Error::LeaseHeld`](crate::Error::LeaseHeld) or [`Error::Cancelled`](crate::Error::Cancelled) in the latter
    /// cases, and with [`Error::Closed`](crate::Error::Closed) if the store is closed meanwhile.
    fn await_turn(&self, ticket: Ticket, claim: Claim, answer: Answer);

    /// Gives up the place of a queued claim.
    fn cancel(&self, ticket: Ticket);

    /// Extends the holder's lease to the full duration from now, also an expired one that nobody has taken over,
    /// unless it was extended `max_renewals` times before.
    fn renew(
        &self,
        key: LeaseKey<'_>,
        terms: LeaseTerms<'_>,
        max_renewals: u64,
        wait: Wait<'_>,
    ) -> Result<Renewal>;

    /// Sets the expiry of this very lease to `duration_ms` from now; says whether it is still there. Doing it twice is
    /// as good as once.
    fn extend(&self, key: LeaseKey<'_>, lease_id: &str, duration_ms: i64, wait: Wait<'_>) -> Result<bool>;

    /// Ends the holder's lease, also an expired one; says whether there was one. With an id, only if it is this lease.
    fn release(
        &self,
        key: LeaseKey<'_>,
        holder: &Text,
        lease_id: Option<&str>,
        wait: Wait<'_>,
    ) -> Result<bool>;

    /// Ends all leases of the holder, expired ones too; says how many there were.
    fn release_all(&self, holder: &Text, wait: Wait<'_>) -> Result<u64>;

    /// Ends a lease, whoever's it is, and keeps a record of that; the lease, if there was one.
    fn force_release(
        &self,
        key: LeaseKey<'_>,
        by: &Text,
        reason: &Text,
        wait: Wait<'_>,
    ) -> Result<Option<Lease>>;

    /// Runs `work` while nobody can be granted the fence's key, if the fence's lease is still the newest one of it,
    /// expired or not; else fails with [`Error::Fenced`](crate::Error::Fenced). Everybody who writes waits meanwhile.
    fn fenced(&self, fence: &Fence, work: &mut dyn FnMut() -> Result<()>, wait: Wait<'_>) -> Result<()>;

    /// The lease for the key, also an expired one. Doesn't wait for writers.
    fn get(&self, key: LeaseKey<'_>, wait: Wait<'_>) -> Result<Option<Lease>>;

    /// Whether `holder` has the lease and it has not expired. Doesn't wait for writers.
    fn holds(&self, key: LeaseKey<'_>, holder: &Text, wait: Wait<'_>) -> Result<bool>;

    /// All leases, expired ones too. Doesn't wait for writers.
    fn list(&self, wait: Wait<'_>) -> Result<Vec<ListedLease>>;

    /// The id of the latest event; 0 without any. Doesn't wait for writers.
    fn latest_event(&self, wait: Wait<'_>) -> Result<i64>;

    /// The events after the one of this id, oldest first; those of long ago may be gone. Doesn't wait for writers.
    fn events_after(&self, id: i64, wait: Wait<'_>) -> Result<Vec<LeaseEvent>>;

    /// Figures about all leases.
    fn stats(&self, wait: Wait<'_>) -> Result<LeaseStats>;

    /// What has happened since the store was made, and how leases stand. Doesn't wait for writers.
    fn totals(&self, wait: Wait<'_>) -> Result<LeaseTotals>;

    /// No lease was ever given a higher fencing token than this one; 0 if none was given any. Doesn't wait for writers.
    fn highest_token(&self, wait: Wait<'_>) -> Result<i64>;

    /// Takes in leases that another store has granted, unless there is one for their keys, and gives no token any more
    /// up to `above`.
    fn take_in(&self, leases: &[ListedLease], above: i64, wait: Wait<'_>) -> Result<()>;

    /// Counts a request that failed, for [`Self::totals`]; a store that can't do so now does it once it can. The caller
    /// says so, since only it knows whether it will ask again. Never waits.
    fn count_failure(&self, request: Request);

    /// How the store is. Doesn't wait for writers.
    fn health(&self, wait: Wait<'_>) -> Result<StoreHealth>;

    /// Ends the use of the store; leases stay. Once it has returned, this handle writes nothing more. May be called
    /// again. Calls after it fail with [`Error::Closed`](crate::Error::Closed).
    fn close(&self);
}

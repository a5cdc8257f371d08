//! Who holds what, wherever that is kept.

use super::model::{Acquisition, Lease, LeaseKey, LeaseStats, Renewal};
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

/// A shared record of leases.
///
/// The store decides by its own idea of time whether a lease has expired, the same for all who use it, and decides
/// each call as a whole: of any number of calls at the same time, each sees the others done or not begun.
///
/// A call that can't be done now waits as its [`Wait`] says. A store that can't tell whether it would block treats
/// [`Patience::Now`](super::Patience::Now) as a call that would.
pub trait LeaseStore: Send + Sync {
    /// Grants the lease unless somebody holds it who has not expired.
    fn acquire(&self, key: LeaseKey<'_>, terms: LeaseTerms<'_>, wait: Wait<'_>) -> Result<Acquisition>;

    /// Extends the holder's lease to the full duration from now, also an expired one that nobody has taken over,
    /// unless it was extended `max_renewals` times before.
    fn renew(
        &self,
        key: LeaseKey<'_>,
        terms: LeaseTerms<'_>,
        max_renewals: u64,
        wait: Wait<'_>,
    ) -> Result<Renewal>;

    /// Ends the holder's lease, also an expired one; says whether there was one.
    fn release(&self, key: LeaseKey<'_>, holder: &Text, wait: Wait<'_>) -> Result<bool>;

    /// Ends all leases of the holder, expired ones too; says how many there were.
    fn release_all(&self, holder: &Text, wait: Wait<'_>) -> Result<u64>;

    /// The lease for the key, also an expired one. Doesn't wait for writers.
    fn get(&self, key: LeaseKey<'_>, wait: Wait<'_>) -> Result<Option<Lease>>;

    /// Whether `holder` has the lease and it has not expired. Doesn't wait for writers.
    fn holds(&self, key: LeaseKey<'_>, holder: &Text, wait: Wait<'_>) -> Result<bool>;

    /// Figures about all leases.
    fn stats(&self, wait: Wait<'_>) -> Result<LeaseStats>;

    /// Ends the use of the store; leases stay. Once it has returned, this handle writes nothing more. May be called
    /// again. Calls after it fail with [`Error::Closed`](crate::Error::Closed).
    fn close(&self);
}

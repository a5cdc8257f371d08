//! Phase leases: the right to work on a phase of a task, for a limited time, held by one agent at a time.
//!
//! [`LeaseManager`] is what an agent uses. It knows who the agent is and how long its leases last; a [`LeaseStore`]
//! knows who holds what. [`SqliteLeaseStore`] keeps that in the workspace's database, shared by all processes of one
//! machine.

mod claim;
mod hold;
mod holding;
mod keeper;
mod manager;
mod model;
mod patience;
mod postgres_store;
mod presence;
mod sqlite_store;
mod store;

#[cfg(test)]
mod tests;

pub use claim::{
    Answer, Claim, Claimed, EventKind, Fence, Granted, LeaseEvent, ListedLease, OwnedKey, Ticket,
};
pub use hold::{Hold, HoldTerms, OnLost};
pub use holding::{Cancellation, HoldAnswer, HoldRequest, OnOneLost};
pub use manager::{LeaseManager, LeaseOptions};
pub use model::{
    Acquisition, ClockSource, DatabaseHealth, Lease, LeaseKey, LeaseStats, LeaseTotals, Renewal,
    ServerHealth, StoreHealth,
};
pub use patience::{Closing, Patience, Wait};
pub(crate) use postgres_store::{FenceParameters, KeyId};
pub use postgres_store::{PRESENCE_ON_SERVER, PostgresLeaseStore};
#[cfg(any(test, fuzzing))]
pub use sqlite_store::sweep_now;
pub use sqlite_store::{SqliteLeaseStore, totals_of};
pub use store::{LeaseStore, LeaseTerms, Request};

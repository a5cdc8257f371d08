//! The hash-chained history of phase transitions.
//!
//! [`entry`] is one entry and its hashes, [`verify`] the check of a whole ledger, [`store`] what every ledger does, and
//! [`file_store`] the one in a workspace's file. The chain makes a change of an entry visible; it does not keep somebody
//! who may write the file from writing all of it anew.

pub mod entry;
pub mod file_store;
mod postgres_store;
pub mod store;
#[cfg(test)]
pub(crate) mod tests;
pub mod verify;

pub use entry::Transition;
pub use file_store::FileLedger;
pub use postgres_store::PostgresLedger;
pub use store::{LedgerStats, LedgerStore};
pub use verify::Verification;

//! The SQLite layer: a database that is shared with code we don't control.
//!
//! The file belongs to the whole application, whose own copy of SQLite opens it in the same process. Hence:
//!
//! - [`vfs_shim`] gives our copy locks that the other copy can't drop;
//! - [`registry`] keeps one pair of connections for each database and process, and closes them only when that drops
//!   none of the other copy's locks ([`descriptors`]);
//! - [`database`] is that pair: one connection writes, the other reads and checkpoints;
//! - [`start_lock`] lets processes prepare a database one after another;
//! - [`contention`] tells when to leave the write lock to others;
//! - [`checkpoint`] and [`housekeeping`] keep the log short without making callers wait.
//!
//! Nothing here knows what the tables are for.

mod checkpoint;
mod contention;
mod database;
mod descriptors;
mod failure;
mod housekeeping;
mod preparation;
mod registry;
mod start_lock;
mod transaction;
mod vfs_shim;

pub(crate) use database::{Database, Unavailable};
pub(crate) use failure::Failure;
pub(crate) use housekeeping::{Chore, schedule};
pub(crate) use preparation::{Preparation, is_wal};
pub(crate) use registry::{DatabaseHandle, Missing, look_into, open, removed};
pub(crate) use transaction::WriteTransaction;

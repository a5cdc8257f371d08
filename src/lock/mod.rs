//! Locks between processes that the operating system keeps.
//!
//! [`os_lock`] is one such lock on one file; [`file_locks`] adds what callers in one process need on top: a queue
//! for each path, waiting with limits, and release by path.

pub mod file_locks;
pub mod os_lock;

pub use file_locks::{FileLocks, Limits, Owner};
pub use os_lock::OsLock;

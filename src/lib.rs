//! Coordination for several AI agents that work on one repository: phase leases, prompt attestations, a
//! hash-chained ledger and file locks. See ARCHITECTURE.md for the map.

pub mod clock;
pub mod error;
pub mod lane;
pub mod lease;
pub mod log;
pub mod runtime;
pub mod sqlite;
pub mod text;

pub use error::{Error, Result};

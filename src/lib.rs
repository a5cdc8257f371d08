//! Coordination for several AI agents that work on one repository: phase leases, prompt attestations, a
//! hash-chained ledger and file locks. See ARCHITECTURE.md for the map.

pub mod attestation;
pub mod backoff;
pub mod budget;
pub mod clock;
pub mod digest;
pub mod durability;
pub mod error;
pub mod files;
pub mod gate;
pub mod journal;
pub mod json;
pub mod lane;
pub mod lease;
pub mod ledger;
pub mod location;
pub mod lock;
pub mod log;
pub mod metrics;
pub mod migration;
#[cfg(feature = "node")]
pub mod node;
pub mod patience;
pub mod place;
pub mod postgres;
pub mod replace;
pub mod runtime;
pub mod shared;
mod sqlite;
pub mod telemetry;
pub mod text;

pub use error::{Error, Result};

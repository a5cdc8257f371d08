//! The Node-API binding: it reads arguments, calls the core and turns answers into JavaScript values.
//!
//! A call does its work at once, on the JavaScript thread, when that takes microseconds and nothing is in the way;
//! otherwise it goes to a lane, whose jobs run on another thread in the order of the calls (see `call.rs`).

#![allow(clippy::doc_markdown, reason = "these docs become TSDoc in index.d.ts, where names are links")]
#![allow(
    clippy::must_use_candidate,
    clippy::needless_pass_by_value,
    clippy::trivially_copy_pass_by_ref,
    reason = "as napi passes arguments"
)]

mod arguments;
pub mod attestations;
mod call;
mod deliveries;
pub mod driver;
pub mod errors;
pub mod exporter;
pub mod fenced_writes;
mod fences;
pub mod file_locks;
pub mod health;
pub mod holds;
mod json;
pub mod lease_administration;
pub mod lease_shapes;
pub mod lease_totals;
pub mod leases;
pub mod ledger;
pub mod logging;
pub mod metrics;
pub mod migration;
pub mod overview;
pub mod place;
mod store;
pub mod telemetry;

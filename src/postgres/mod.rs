//! A PostgreSQL server, as far as any store needs one: its address, connections that come back, a schema of our own.
//!
//! Each request is one statement in one implicit transaction, unnamed and without session state, so that it may go
//! through a pooler that changes connections between transactions. The caller's thread drives its connection itself:
//! an answer costs no switch of threads. The driver is a library of its own, loaded on demand (`postgres-driver/`).

mod address;
pub mod driver;
mod failure;
mod pool;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod pooler;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod proxy;
pub(crate) mod rows;
mod schema;
mod server;
mod session;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod testing;
#[cfg(test)]
#[cfg(unix)]
mod tests;

pub(crate) use address::Address;
pub(crate) use failure::Failure;
pub(crate) use pool::{Attempt, Pool};
pub(crate) use schema::{COMMON, Upgrade, quoted, upgrade, version};
pub(crate) use server::Server;
pub(crate) use session::Session;

pub(crate) use driftlock_postgres::client::{Parameter, Row};

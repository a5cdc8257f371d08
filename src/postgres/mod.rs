//! A PostgreSQL server, as far as any store needs one: its address, connections that come back, a schema of our own.
//!
//! Each request is one statement in one implicit transaction, unnamed and without session state, so that it may go
//! through a pooler that changes connections between transactions. The caller's thread drives its connection itself:
//! an answer costs no switch of threads.

mod address;
mod failure;
mod pool;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod proxy;
mod schema;
mod session;
#[cfg(test)]
#[cfg(unix)]
pub(crate) mod testing;
mod tls;

pub(crate) use address::Address;
pub(crate) use failure::Failure;
pub(crate) use pool::{Attempt, Pool};
pub(crate) use schema::{Upgrade, quoted, upgrade, version};
pub(crate) use session::{Parameter, Session};

//! The driver for PostgreSQL, in a library of its own that is loaded when a store needs it.
//!
//! tokio-postgres and TLS are larger than the rest of what driftlock needs for PostgreSQL, and most programs use neither.
//! So they are behind a C interface ([`table`]) of blocking calls whose arguments and answers are bytes (`wire`).
//! [`client`] is how the core uses a driver; with the feature `driver` this crate is one.

pub mod client;
#[cfg(feature = "driver")]
pub mod driver;
pub mod percent;
pub mod table;
mod wire;

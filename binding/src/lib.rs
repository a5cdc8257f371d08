//! The library that Node loads. All of it is in [`driftlock::node`].

pub use driftlock::node;

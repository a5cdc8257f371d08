//! How long a call may wait for others.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
pub use crate::patience::Patience;

/// The patience of a call, and whether its manager still wants the answer.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    patience: Patience,
    closed: &'a AtomicBool,
}

impl<'a> Wait<'a> {
    /// A wait that ends with `patience`, or as soon as `closed` is set.
    #[must_use]
    pub fn new(patience: Patience, closed: &'a AtomicBool) -> Self {
        Self { patience, closed }
    }

    /// How long the call may wait.
    #[must_use]
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Fails with [`Error::Closed`] once the manager is closed. To be called before each try, with the store's own
    /// locks held, so that nothing is written after the manager's `close` has returned.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

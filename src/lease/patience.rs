//! How long a call may wait for others.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{Error, Result};
pub use crate::patience::Patience;

/// Whether a manager is on its way to its end.
#[derive(Debug, Default)]
pub struct Closing {
    /// Until when calls that were made before may still wait for others.
    deadline: OnceLock<Instant>,
    closed: AtomicBool,
}

impl Closing {
    /// Calls that are under way may wait for others until `deadline`, no longer.
    pub fn begin(&self, deadline: Instant) {
        // The first closing sets it.
        let _ = self.deadline.set(deadline);
    }

    /// Calls fail from now on.
    pub fn finish(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Fails with [`Error::Closed`] once the manager is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

/// The patience of a call, and whether its manager still wants the answer.
#[derive(Debug, Clone, Copy)]
pub struct Wait<'a> {
    patience: Patience,
    closing: &'a Closing,
}

impl<'a> Wait<'a> {
    /// A wait that ends with `patience`, and sooner if the manager is closed.
    #[must_use]
    pub fn new(patience: Patience, closing: &'a Closing) -> Self {
        Self { patience, closing }
    }

    /// How long the call may wait for other threads of this process: closing doesn't shorten that.
    #[must_use]
    pub fn for_this_process(&self) -> Patience {
        self.patience
    }

    /// How long the call may wait for other processes, as of now.
    #[must_use]
    pub fn patience(&self) -> Patience {
        match (self.patience, self.closing.deadline.get()) {
            (Patience::Until(own), Some(closing)) => Patience::Until(own.min(*closing)),
            (patience, _) => patience,
        }
    }

    /// Fails with [`Error::Closed`] once the manager is closed. To be called before each try, with the store's own
    /// locks held, so that nothing is written after the manager's `close` has returned.
    pub fn check_open(&self) -> Result<()> {
        self.closing.check_open()
    }
}

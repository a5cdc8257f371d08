//! Leave to write, asked for at the last moment.

use crate::error::{Error, Result};
use crate::lease::Fence;

/// Runs what it is given, once, if it may be done, while nothing can change that; else fails.
///
/// It is passed through with everything prepared and all locks of one's own held: others wait meanwhile.
pub type Gate<'a> = &'a dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<()>;

/// What has to let a write pass: else it fails as that does, and nothing is written.
#[derive(Clone, Copy)]
pub enum Guard<'a> {
    /// Nothing.
    Open,
    /// A gate, which somebody else keeps.
    Gate(Gate<'a>),
    /// A fence of the same server and schema, which the store checks in the transaction of the write. Only for a store
    /// that [is remote](crate::ledger::LedgerStore::is_remote).
    Fence(&'a Fence),
}

impl<'a> Guard<'a> {
    /// Runs `work`, with the fence that it has to check itself, if there is one.
    pub(crate) fn pass<T>(self, mut work: impl FnMut(Option<&Fence>) -> Result<T>) -> Result<T> {
        let gate = match self {
            Self::Open => return work(None),
            Self::Fence(fence) => return work(Some(fence)),
            Self::Gate(gate) => gate,
        };
        let mut answer = None;
        gate(&mut || {
            answer = Some(work(None)?);
            Ok(())
        })?;
        answer.ok_or_else(|| Error::Defect("a gate that let nothing pass".to_owned()))
    }

    /// The gate to pass through, for a store that can't check a fence by itself.
    pub(crate) fn as_gate(self) -> Result<Gate<'a>> {
        match self {
            Self::Open => Ok(&open),
            Self::Gate(gate) => Ok(gate),
            Self::Fence(_) => Err(Error::Defect("files can't check a fence".to_owned())),
        }
    }
}

/// A gate that is always open.
///
/// # Errors
/// Those of `work`.
pub fn open(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}

//! Leave to write, asked for at the last moment.

use crate::error::Result;

/// Runs what it is given, once, if it may be done, while nothing can change that; else fails.
///
/// It is passed through with everything prepared and all locks of one's own held: others wait meanwhile.
pub type Gate<'a> = &'a dyn Fn(&mut dyn FnMut() -> Result<()>) -> Result<()>;

/// A gate that is always open.
///
/// # Errors
/// Those of `work`.
pub fn open(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()
}

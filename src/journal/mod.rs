//! The append-only file of JSON lines that attestations and the ledger share.
//!
//! A journal is a plain text file, one JSON object a line, that other programs read while it grows. It is appended
//! to under a lock between processes, [`lock`], by one write for each batch of whole lines, [`writer`]; an append
//! that fails is taken back, and a half line that a crash left behind is put aside before the next append.
//! [`tail`] follows the file's growth and keeps a summary of it in memory, so that no line is parsed twice;
//! [`task_index`] finds the lines of one task again.
//!
//! What survives: a line whose append has returned survives the death of the process. It survives a power cut once
//! the operating system has written it back.

mod lenient;
pub mod lock;
pub mod reader;
pub mod tail;
pub mod task_index;
pub mod writer;

pub(crate) use lenient::{lenient, strict};
pub use lock::{JournalGuard, JournalLock};
pub use tail::{Summary, Tail};
pub use task_index::TaskIndex;
pub use writer::Journal;

/// The folder of a workspace in which the journals are.
pub const PROCESS_FOLDER: &str = "state/process";

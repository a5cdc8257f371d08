//! A ledger, wherever it is kept.

use super::entry::{GENESIS, StoredEntry, Transition};
use super::verify::Verification;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::gate::Guard;
use crate::location::Location;
use crate::metrics::{self, Append};
use crate::patience::Patience;
use crate::text::Text;

/// What is in a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerStats {
    /// All entries that can be read.
    pub total_entries: u64,
    /// The number of different tasks.
    pub unique_tasks: u64,
    /// The first entry's timestamp.
    pub oldest_entry: Option<Text>,
    /// The last entry's timestamp.
    pub newest_entry: Option<Text>,
    /// The last entry's hash; [`GENESIS`] if there is none.
    pub last_hash: Text,
    /// Lines that can't be read.
    pub damaged_lines: u64,
}

impl Default for LedgerStats {
    /// An empty ledger's.
    fn default() -> Self {
        Self {
            total_entries: 0,
            unique_tasks: 0,
            oldest_entry: None,
            newest_entry: None,
            last_hash: GENESIS.into(),
            damaged_lines: 0,
        }
    }
}

/// A chain of entries that only grows, shared by all who use it.
///
/// A call that can't be done now waits as its patience says; one that must not wait fails with
/// [`Error::JournalLocked`] or [`Error::DatabaseLocked`] then, and may be made again by a caller who can.
pub trait LedgerStore: Send + Sync {
    /// Where the ledger is.
    fn location(&self) -> Location<'_>;

    /// Whether calls wait for a network.
    fn is_remote(&self) -> bool {
        matches!(self.location(), Location::Server(_))
    }

    /// How many appends it does well in one call.
    fn largest_batch(&self) -> usize {
        usize::MAX
    }

    /// Makes the place that the ledger is to be in, where it is absent.
    fn initialize(&self, durability: Durability, patience: Patience) -> Result<()>;

    /// Whether there is a ledger: something has been appended.
    fn exists(&self, patience: Patience) -> Result<bool>;

    /// Appends transitions, each chained onto the one before it: all, or none. Gives their lines, in order.
    ///
    /// If the entries are to survive a power cut and the disk fails, they may or may not be there.
    fn append(
        &self,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>> {
        self.append_through(Guard::Open, transitions, durability, patience)
    }

    /// [`Self::append`], if the guard lets it pass.
    fn append_through(
        &self,
        guard: Guard<'_>,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>>;

    /// Checks all of it. No ledger is as good as an empty one.
    fn verify(&self, patience: Patience) -> Result<Verification>;

    /// The entries of a task as they were written, oldest first.
    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>>;

    /// The phase that a task entered last.
    fn current_phase(&self, task: &Text, patience: Patience) -> Result<Option<Text>>;

    /// What is in the ledger.
    fn stats(&self, patience: Patience) -> Result<LedgerStats>;
}

/// What the entry after this one is chained to.
pub(super) fn last_hash_of(entry: Option<&StoredEntry<'_>>) -> Text {
    let hash = entry.and_then(StoredEntry::entry_hash);
    hash.and_then(|hash| Text::from_wtf8(hash.into_owned())).unwrap_or_else(|| GENESIS.into())
}

/// Counts what became of so many transitions.
pub(super) fn count_appends(appended: &Result<Vec<String>>, transitions: usize, patience: Patience) {
    match appended {
        Ok(lines) => metrics::ledger_appends(Append::Appended, lines.len()),
        // A caller that can't wait asks again.
        Err(Error::JournalLocked { .. } | Error::DatabaseLocked) if patience == Patience::Now => {}
        Err(_) => metrics::ledger_appends(Append::Error, transitions),
    }
}

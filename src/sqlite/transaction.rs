//! Write transactions.

use rusqlite::Connection;

use super::failure::Failure;
use crate::durability::Durability;

/// A transaction that holds the database's write lock from its beginning; undone unless committed.
///
/// If it is to survive a power cut, the log is synced before the commit returns, and all earlier commits with it; a
/// sync that fails undoes the transaction.
///
/// It is never deferred: one that reads first and then wants to write is refused when somebody else wrote meanwhile.
#[derive(Debug)]
pub(crate) struct WriteTransaction<'c> {
    connection: &'c Connection,
    durability: Durability,
}

impl<'c> WriteTransaction<'c> {
    /// Begins, or fails with [`Failure::Busy`] at once.
    pub(crate) fn begin(connection: &'c Connection, durability: Durability) -> Result<Self, Failure> {
        let transaction = Self { connection, durability };
        if durability == Durability::PowerCut {
            connection.execute_batch("PRAGMA synchronous = FULL")?;
        }
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(transaction)
    }

    /// Makes the changes visible to everybody.
    pub(crate) fn commit(self) -> Result<(), Failure> {
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }
}

impl Drop for WriteTransaction<'_> {
    fn drop(&mut self) {
        // Some errors have rolled back already. A rollback that fails leaves a connection whose next BEGIN fails,
        // so nothing can be taken for done.
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        if self.durability == Durability::PowerCut {
            let _ = self.connection.execute_batch("PRAGMA synchronous = NORMAL");
        }
    }
}

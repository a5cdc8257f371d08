//! The ledger in a PostgreSQL database, for agents on several machines.
//!
//! Only the server knows what an entry is chained to, so it makes the lines: of the parts that come with the call, the
//! hashes and its own time. They are, byte for byte, those that a file would have. See `sql/`.

mod transfer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use postgres_types::Type;
use uuid::Uuid;

use super::entry::{Parts, StoredEntry, Transition, of_task};
use super::store::{LedgerStats, LedgerStore, count_appends, last_hash_of};
use super::verify::{Check, Verification};
use crate::digest::short_digest;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::gate::Guard;
use crate::lease::{Fence, FenceParameters};
use crate::location::Location;
use crate::patience::Patience;
use crate::postgres::rows::{count, only, unexpected, value};
use crate::postgres::{COMMON, Failure, Parameter, Row, Server, Upgrade};
use crate::text::Text;

const UPGRADE: Upgrade<'static> = Upgrade {
    part: "ledger",
    version: 1,
    sql: &[COMMON, include_str!("sql/ledger.sql"), include_str!("sql/import.sql")],
};

/// How many entries are read at once.
const READ_AT_ONCE: i64 = 1000;
/// How long reading them may take, whatever patience is left: it waits for nobody.
const READING: Duration = Duration::from_secs(10);

/// A ledger in a schema of a PostgreSQL database, 13 or later, which all who name the schema share.
///
/// Every call waits for the network, and fails with [`Error::DatabaseLocked`] if it must not. What was acknowledged
/// survives what the server's `synchronous_commit` and `synchronous_standby_names` promise; with
/// [`Durability::PowerCut`] at least the end of the server.
pub struct PostgresLedger {
    server: Arc<Server>,
    location: String,
}

impl PostgresLedger {
    /// The ledger at `postgres://user:password@host:port/database?schema=driftlock&sslmode=verify-full`. Connects to
    /// nothing; the first call does, and makes or upgrades the schema.
    pub fn new(url: &str) -> Result<Self> {
        let server = Server::at(url, &UPGRADE)?;
        Ok(Self { location: server.address().to_string(), server })
    }

    fn try_append(
        &self,
        fence: Option<&Fence>,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>> {
        let server = &*self.server;
        let request = Uuid::now_v7();
        let ids: Vec<Uuid> = transitions.iter().map(|_| Uuid::new_v4()).collect();
        let task_keys: Vec<i64> =
            transitions.iter().map(|transition| short_digest(transition.task_id.as_wtf8())).collect();
        let parts: Vec<Parts> = transitions.iter().map(|transition| Parts::of(transition)).collect();
        let cores: Vec<&[u8]> = parts.iter().map(|parts| &*parts.core).collect();
        let personas: Vec<Option<&[u8]>> = parts.iter().map(|parts| parts.persona.as_deref()).collect();
        let details: Vec<&[u8]> = parts.iter().map(|parts| &*parts.details).collect();
        let is_synced = durability == Durability::PowerCut;
        let fence = FenceParameters::of(fence, &server.address().schema);
        let [lock, key, lease_id, token] = fence.parameters();
        server.call(&UPGRADE, patience, |attempt| {
            let rows = server.function(
                attempt.session,
                "append_1",
                &[
                    (&request, Type::UUID),
                    (&attempt.is_repeat, Type::BOOL),
                    (&ids, Type::UUID_ARRAY),
                    (&task_keys, Type::INT8_ARRAY),
                    (&cores, Type::BYTEA_ARRAY),
                    (&personas, Type::BYTEA_ARRAY),
                    (&details, Type::BYTEA_ARRAY),
                    (&is_synced, Type::BOOL),
                    lock.clone(),
                    key.clone(),
                    lease_id.clone(),
                    token.clone(),
                ],
                attempt.deadline,
            )?;
            match rows.first().map(|row| value::<&str>(row, "r_outcome").map(|outcome| (row, outcome))) {
                Some(Ok((row, "fenced"))) => return fence.refusal(row).map(Err),
                Some(Err(failure)) => return Err(failure),
                _ => {}
            }
            let line = |row| Ok(String::from_utf8_lossy(value(row, "r_line")?).into_owned());
            let lines = rows.iter().map(line).collect::<Result<Vec<_>, _>>()?;
            if lines.len() == transitions.len() {
                Ok(Ok(lines))
            } else {
                Err(unexpected("entries are missing"))
            }
        })?
    }

    /// Reads the lines of all entries, or of a task's, oldest first and not all at once.
    fn for_each_line(
        &self,
        task_key: Option<i64>,
        patience: Patience,
        mut found: impl FnMut(Vec<u8>),
    ) -> Result<()> {
        self.for_each_piece(task_key, 0, patience, |lines| {
            for line in lines {
                found(line);
            }
            Ok(())
        })
    }

    /// Gives the lines behind a number, some at a time.
    fn for_each_piece(
        &self,
        task_key: Option<i64>,
        behind: i64,
        patience: Patience,
        mut found: impl FnMut(Vec<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        const OF_ALL: &str =
            "SELECT number, line FROM @schema@.entries WHERE number > $1 ORDER BY number LIMIT $2";
        const OF_TASK: &str = "SELECT number, line FROM @schema@.entries WHERE number > $1 AND task_key = $3
            ORDER BY number LIMIT $2";
        let Patience::Until(deadline) = patience else { return Err(Error::DatabaseLocked) };
        let mut last = behind;
        loop {
            let mut parameters: Vec<Parameter<'_>> = vec![(&last, Type::INT8), (&READ_AT_ONCE, Type::INT8)];
            if let Some(task_key) = &task_key {
                parameters.push((task_key, Type::INT8));
            }
            let sql = if task_key.is_some() { OF_TASK } else { OF_ALL };
            let patience = Patience::Until(deadline.max(Instant::now() + READING));
            let lines = self.server.call(&UPGRADE, patience, |attempt| {
                let rows = self.server.statement(attempt.session, sql, &parameters, attempt.deadline)?;
                rows.iter().map(numbered).collect::<Result<Vec<_>, _>>()
            })?;
            let Some((number, _)) = lines.last() else { return Ok(()) };
            last = *number;
            found(lines.into_iter().map(|(_, line)| line).collect())?;
        }
    }
}

impl LedgerStore for PostgresLedger {
    fn location(&self) -> Location<'_> {
        Location::Server(&self.location)
    }

    /// A call is one statement, which has to be done within a few seconds.
    fn largest_batch(&self) -> usize {
        256
    }

    fn initialize(&self, _: Durability, patience: Patience) -> Result<()> {
        self.server.call(&UPGRADE, patience, |_| Ok(()))
    }

    fn exists(&self, patience: Patience) -> Result<bool> {
        const SQL: &str = "SELECT EXISTS (SELECT 1 FROM @schema@.entries) AS r_exists";
        self.server.call(&UPGRADE, patience, |attempt| {
            let rows = self.server.statement(attempt.session, SQL, &[], attempt.deadline)?;
            value(only(&rows)?, "r_exists")
        })
    }

    fn append_through(
        &self,
        guard: Guard<'_>,
        transitions: &[&Transition],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<String>> {
        let appended = guard.pass(|fence| self.try_append(fence, transitions, durability, patience));
        count_appends(&appended, transitions.len(), patience);
        appended
    }

    /// Entries that others append meanwhile are checked too.
    fn verify(&self, patience: Patience) -> Result<Verification> {
        let mut check = Check::new();
        self.for_each_line(None, patience, |line| check.add(&line))?;
        Ok(check.finish())
    }

    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        self.for_each_line(Some(short_digest(task.as_wtf8())), patience, |line| {
            if of_task(&line, task).is_some() {
                lines.push(line);
            }
        })?;
        Ok(lines)
    }

    fn current_phase(&self, task: &Text, patience: Patience) -> Result<Option<Text>> {
        const SQL: &str = "SELECT number, line FROM @schema@.entries WHERE task_key = $1 AND number < $2
            ORDER BY number DESC LIMIT 1";
        let key = short_digest(task.as_wtf8());
        let mut before = i64::MAX;
        loop {
            let newest = self.server.call(&UPGRADE, patience, |attempt| {
                let parameters = &[(&key as _, Type::INT8), (&before as _, Type::INT8)];
                let rows = self.server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
                rows.first().map(numbered).transpose()
            })?;
            let Some((number, line)) = newest else { return Ok(None) };
            if let Some(phase) = of_task(&line, task).and_then(|entry| entry.to_phase()) {
                return Ok(Some(phase));
            }
            before = number;
        }
    }

    fn stats(&self, patience: Patience) -> Result<LedgerStats> {
        const SQL: &str = "SELECT number, tasks, line,
              (SELECT line FROM @schema@.entries ORDER BY number LIMIT 1) AS r_first
            FROM @schema@.entries ORDER BY number DESC LIMIT 1";
        self.server.call(&UPGRADE, patience, |attempt| {
            let rows = self.server.statement(attempt.session, SQL, &[], attempt.deadline)?;
            let Some(last) = rows.first() else { return Ok(LedgerStats::default()) };
            let entry = |column| Ok(StoredEntry::from_line(value(last, column)?));
            let (first, newest) = (entry("r_first")?, entry("line")?);
            Ok(LedgerStats {
                total_entries: count(last, "number")?,
                unique_tasks: count(last, "tasks")?,
                oldest_entry: first.and_then(|entry| entry.timestamp()),
                newest_entry: newest.as_ref().and_then(StoredEntry::timestamp),
                last_hash: last_hash_of(newest.as_ref()),
                damaged_lines: 0,
            })
        })
    }
}

fn numbered(row: &Row) -> Result<(i64, Vec<u8>), Failure> {
    Ok((value(row, "number")?, value(row, "line")?))
}

//! The tables.
//!
//! `phase_leases` belongs to old programs too, which insert, renew and delete by column name. New databases get a
//! lean shape: the key is the table, so that each change touches one b-tree. Databases of before keep theirs (a text
//! key `lease_id` and two indexes) and get the further columns; every statement addresses rows by `(task_id, phase)`
//! and works on both.
//!
//! `phase_lease_meta` is one row: the sequence of fencing tokens, and the statistics that can't be counted from the
//! rows there are. All of it is on one page, so that an acquisition writes two pages.
//!
//! `phase_lease_waiters` is the queue of those who wait for a lease, and `phase_lease_events` what others did to a
//! holder's lease, for its holder and for those who operate the workspace. Both are read and written only when there is
//! something in them or to be put there.

use rusqlite::{Connection, params};

use super::statistics;
use super::tokens::{self, FIRST_TOKEN};
use crate::durability::Durability;
use crate::sqlite::{Failure, Preparation, WriteTransaction};

/// Columns without which a table of this name is something else.
const REQUIRED: [&str; 7] =
    ["lease_id", "task_id", "phase", "agent_id", "acquired_at", "expires_at", "renewed_count"];

/// Columns that old programs don't know, each nullable.
const ADDED: [(&str, &str); 6] = [
    ("fencing_token", "INTEGER"),
    ("boot_id", "TEXT"),
    ("acquired_boot_ms", "INTEGER"),
    ("deadline_boot_ms", "INTEGER"),
    ("expires_wall_ms", "INTEGER"),
    ("process", "TEXT"),
];

const CREATE_LEASES: &str = "CREATE TABLE phase_leases (
  task_id TEXT NOT NULL,
  phase TEXT NOT NULL,
  lease_id TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  acquired_at TEXT NOT NULL,
  expires_at TEXT NOT NULL,
  renewed_count INTEGER NOT NULL DEFAULT 0,
  fencing_token INTEGER,
  boot_id TEXT,
  acquired_boot_ms INTEGER,
  deadline_boot_ms INTEGER,
  expires_wall_ms INTEGER,
  process TEXT,
  PRIMARY KEY (task_id, phase)
) WITHOUT ROWID";

const META: &str = "CREATE TABLE IF NOT EXISTS phase_lease_meta (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  next_token INTEGER NOT NULL,
  token_ceiling INTEGER NOT NULL,
  token_boot_id TEXT";

/// With a default, since earlier versions of this package name only the columns that they know.
const FIGURE: &str = "INTEGER NOT NULL DEFAULT 0";

/// One row for each key that somebody waits for; the rows of one claim have one ticket. No id is used twice, so that
/// nobody takes another's place for its own.
const CREATE_WAITERS: &str = "CREATE TABLE IF NOT EXISTS phase_lease_waiters (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  ticket INTEGER NOT NULL,
  task_id TEXT NOT NULL,
  phase TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  process TEXT NOT NULL,
  boot_id TEXT,
  until_boot_ms INTEGER NOT NULL,
  free_since_boot_ms INTEGER
);
CREATE INDEX IF NOT EXISTS phase_lease_waiters_by_key ON phase_lease_waiters (task_id, phase)";

const CREATE_EVENTS: &str = "CREATE TABLE IF NOT EXISTS phase_lease_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  at TEXT NOT NULL,
  task_id TEXT NOT NULL,
  phase TEXT NOT NULL,
  agent_id TEXT NOT NULL,
  fencing_token INTEGER,
  by TEXT,
  reason TEXT
)";

/// Gives rows of old programs a token of the same sequence.
const CREATE_TRIGGER: &str = "CREATE TRIGGER IF NOT EXISTS phase_leases_fencing_token
AFTER INSERT ON phase_leases WHEN NEW.fencing_token IS NULL
BEGIN
  UPDATE phase_lease_meta SET next_token = next_token + 1 WHERE id = 1;
  UPDATE phase_leases SET fencing_token = (SELECT next_token - 1 FROM phase_lease_meta WHERE id = 1)
    WHERE task_id = NEW.task_id AND phase = NEW.phase;
END";

/// Sees to it that a database has the tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schema<'a> {
    /// The present boot, if the system names it.
    pub(super) boot_id: Option<&'a str>,
}

impl Preparation for Schema<'_> {
    fn is_done(&self, connection: &Connection) -> Result<bool, Failure> {
        let named: i64 = connection.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE (type, name) IN
             (('table', 'phase_leases'), ('table', 'phase_lease_meta'), ('trigger', 'phase_leases_fencing_token'),
              ('table', 'phase_lease_waiters'), ('table', 'phase_lease_events'))",
            [],
            |row| row.get(0),
        )?;
        if named < 5 {
            return Ok(false);
        }
        let lease_columns = columns(connection, "phase_leases")?;
        check_shape(connection, &lease_columns)?;
        let has_sequence: bool =
            connection.query_row("SELECT count(*) = 1 FROM phase_lease_meta", [], |row| row.get(0))?;
        Ok(has_sequence
            && ADDED.iter().all(|(name, _)| has(&lease_columns, name))
            && missing_figures(connection)?.is_empty())
    }

    fn perform(&self, connection: &Connection) -> Result<(), Failure> {
        // Synced, for it may hand out the first range of tokens.
        let transaction = WriteTransaction::begin(connection, Durability::PowerCut)?;
        let columns = columns(connection, "phase_leases")?;
        if columns.is_empty() {
            connection.execute_batch(CREATE_LEASES)?;
        } else {
            check_shape(connection, &columns)?;
            for (name, kind) in ADDED {
                if !has(&columns, name) {
                    connection
                        .execute_batch(&format!("ALTER TABLE phase_leases ADD COLUMN {name} {kind}"))?;
                }
            }
        }
        for table in [&create_meta(), CREATE_WAITERS, CREATE_EVENTS] {
            connection.execute_batch(table)?;
        }
        for name in missing_figures(connection)? {
            connection.execute_batch(&format!("ALTER TABLE phase_lease_meta ADD COLUMN {name} {FIGURE}"))?;
        }
        connection.execute(
            "INSERT OR IGNORE INTO phase_lease_meta (id, next_token, token_ceiling, token_boot_id)
             VALUES (1, ?1, ?2, ?3)",
            params![FIRST_TOKEN, FIRST_TOKEN + tokens::RANGE, self.boot_id],
        )?;
        number_leases_without_token(connection)?;
        connection.execute_batch(CREATE_TRIGGER)?;
        transaction.commit()
    }
}

/// Whether the table has the shape that old programs give it: their key is the lease's id.
pub(super) fn is_old(connection: &Connection) -> Result<bool, Failure> {
    let is_old = connection.query_row(
        "SELECT count(*) > 0 FROM pragma_table_info('phase_leases') WHERE name = 'lease_id' AND pk > 0",
        [],
        |row| row.get(0),
    )?;
    Ok(is_old)
}

fn columns(connection: &Connection, table: &str) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?1)")?;
    let names = statement.query_map([table], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(names)
}

fn has(columns: &[String], name: &str) -> bool {
    columns.iter().any(|column| column == name)
}

fn create_meta() -> String {
    let figures = statistics::COLUMNS.map(|name| format!(",\n  {name} {FIGURE}"));
    format!("{META}{}\n)", figures.concat())
}

/// The figures for which there is no column yet.
fn missing_figures(connection: &Connection) -> Result<Vec<&'static str>, Failure> {
    let columns = columns(connection, "phase_lease_meta")?;
    Ok(statistics::COLUMNS.into_iter().filter(|name| !has(&columns, name)).collect())
}

/// Refuses a table that can't keep two agents apart, or is not about leases at all.
fn check_shape(connection: &Connection, columns: &[String]) -> Result<(), Failure> {
    let missing: Vec<_> = REQUIRED.into_iter().filter(|name| !has(columns, name)).collect();
    if !missing.is_empty() {
        return Err(unusable(&format!("has no column {}", missing.join(", "))));
    }
    // The primary key of a rowid table other than an INTEGER one is among its indexes, and so is that of a table
    // without rowids.
    let unique: bool = connection.query_row(
        "SELECT count(*) > 0 FROM pragma_index_list('phase_leases') AS list
         WHERE list.\"unique\" AND NOT list.partial AND (
           SELECT group_concat(name, ',') FROM (
             SELECT name FROM pragma_index_info(list.name) ORDER BY name)) = 'phase,task_id'",
        [],
        |row| row.get(0),
    )?;
    if unique {
        return Ok(());
    }
    Err(unusable("is not unique on (task_id, phase)"))
}

fn unusable(what: &str) -> Failure {
    Failure::Refused(format!(
        "the table phase_leases {what}; it was left as it is: rename it, then create a new PhaseLeaseManager"
    ))
}

/// Leases of before get tokens below all later ones. Their keys stay inside SQLite: old programs check none.
fn number_leases_without_token(connection: &Connection) -> Result<(), Failure> {
    let numbered = connection.execute(
        "UPDATE phase_leases SET fencing_token = meta.next_token + old.position
         FROM phase_lease_meta AS meta,
           (SELECT task_id, phase, row_number() OVER () - 1 AS position FROM phase_leases
            WHERE fencing_token IS NULL) AS old
         WHERE meta.id = 1 AND phase_leases.task_id = old.task_id AND phase_leases.phase = old.phase",
        [],
    )?;
    connection.execute(
        "UPDATE phase_lease_meta SET next_token = next_token + ?1 WHERE id = 1",
        [i64::try_from(numbered).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

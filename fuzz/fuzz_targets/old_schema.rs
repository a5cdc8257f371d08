//! Leases in a database of the old schema, into which other programs write rows of any content by plain SQL.
//!
//! Nothing panics or fails, whatever the rows hold, and no two agents have one live lease.

#![no_main]

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use driftlock::clock::{Clock, ManualClock, iso_timestamp};
use driftlock::lease::{Acquisition, LeaseManager, LeaseOptions, Patience, Renewal, sweep_now};
use driftlock::log;
use driftlock::text::Text;
use libfuzzer_sys::fuzz_target;
use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS phase_leases (
  lease_id TEXT PRIMARY KEY, task_id TEXT NOT NULL, phase TEXT NOT NULL, agent_id TEXT NOT NULL,
  acquired_at TEXT NOT NULL, expires_at TEXT NOT NULL, renewed_count INTEGER NOT NULL DEFAULT 0,
  UNIQUE(task_id, phase));
CREATE INDEX IF NOT EXISTS idx_phase_leases_expires_at ON phase_leases(expires_at);";
const START: i64 = 1_800_000_000_000;
const AGENTS: [&str; 2] = ["a", "b"];

#[derive(Arbitrary, Debug)]
struct Input {
    rows: Vec<Row>,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
struct Row {
    lease: Odd,
    task: Task,
    agent: Odd,
    acquired: Odd,
    expires: Odd,
    renewed: Odd,
}

#[derive(Arbitrary, Debug)]
enum Odd {
    /// A time this many seconds from the start.
    Time(i16),
    /// One of the agents.
    Agent(bool),
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
    /// TEXT that is not UTF-8.
    Cast(Vec<u8>),
    Blob(Vec<u8>),
}

#[derive(Arbitrary, Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    One,
    Two,
    /// A lone surrogate.
    Lone,
}

#[derive(Arbitrary, Debug)]
enum Step {
    Acquire(bool, Task),
    Renew(bool, Task),
    Release(bool, Task),
    ReleaseAll(bool),
    Get(Task),
    Stats,
    Sweep,
    Reopen,
    Advance(u16),
    StepWall(i32),
    Reboot,
    Insert(Row),
    Update(Task, Column, Odd),
    Delete(Task),
}

#[derive(Arbitrary, Debug)]
enum Column {
    Lease,
    Agent,
    Acquired,
    Expires,
    Renewed,
    Token,
    Boot,
    AcquiredBoot,
    DeadlineBoot,
    ExpiresWall,
}

impl Column {
    fn name(&self) -> &'static str {
        match self {
            Self::Lease => "lease_id",
            Self::Agent => "agent_id",
            Self::Acquired => "acquired_at",
            Self::Expires => "expires_at",
            Self::Renewed => "renewed_count",
            Self::Token => "fencing_token",
            Self::Boot => "boot_id",
            Self::AcquiredBoot => "acquired_boot_ms",
            Self::DeadlineBoot => "deadline_boot_ms",
            Self::ExpiresWall => "expires_wall_ms",
        }
    }
}

impl Task {
    fn text(self) -> Text {
        match self {
            Self::One => "one".into(),
            Self::Two => "two".into(),
            Self::Lone => Text::from_utf16(&[0xD83D]),
        }
    }

    fn value(self) -> Value {
        match self {
            Self::One => Value::Text("one".to_owned()),
            Self::Two => Value::Text("two".to_owned()),
            Self::Lone => Value::Blob(vec![0xED, 0xA0, 0xBD]),
        }
    }
}

impl Odd {
    fn value(&self) -> Value {
        match self {
            Self::Time(seconds) => Value::Text(iso_timestamp(START + i64::from(*seconds) * 1000)),
            Self::Agent(which) => Value::Text(AGENTS[usize::from(*which)].to_owned()),
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Real(number) => Value::Real(*number),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Cast(bytes) | Self::Blob(bytes) => Value::Blob(bytes.clone()),
        }
    }

    /// The parameter in SQL.
    fn sql(&self) -> &'static str {
        if matches!(self, Self::Cast(_)) { "CAST(? AS TEXT)" } else { "?" }
    }
}

fn insert(connection: &Connection, row: &Row) -> bool {
    let columns = [&row.lease, &row.agent, &row.acquired, &row.expires, &row.renewed];
    let sql = format!(
        "INSERT INTO phase_leases (lease_id, agent_id, acquired_at, expires_at, renewed_count, task_id, phase)
         VALUES ({}, ?, 'PLAN')",
        columns.map(Odd::sql).join(", "),
    );
    let mut parameters: Vec<Value> = columns.iter().map(|column| column.value()).collect();
    parameters.push(row.task.value());
    let parameters = parameters.into_iter().map(ToSqlOutput::Owned);
    connection.execute(&sql, rusqlite::params_from_iter(parameters)).is_ok()
}

/// A lease that was granted and that nobody but us has touched since.
#[derive(Debug)]
struct Granted {
    agent: usize,
    deadline_boot_ms: i64,
}

fuzz_target!(|input: Input| {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        log::set_level(None);
        tempfile::tempdir().expect("a folder")
    });
    let state = folder.path().join("state");
    let _ = std::fs::remove_dir_all(&state);
    std::fs::create_dir_all(&state).expect("made");
    let database = state.join("orchestrator.db");
    let other = Connection::open(&database).expect("opened");
    other.busy_timeout(Duration::from_secs(1)).expect("set");
    other.execute_batch(SCHEMA).expect("made");
    for row in &input.rows {
        insert(&other, row);
    }

    let clock = Arc::new(ManualClock::new(START));
    let plan = Text::from("PLAN");
    let open = |agent: usize| {
        let options = LeaseOptions {
            lease_duration_ms: 10_000,
            max_renewals: 3,
            ..LeaseOptions::of(AGENTS[agent].into())
        };
        LeaseManager::open(folder.path(), options, clock.clone()).expect("opens whatever the rows hold")
    };
    let mut managers = [open(0), open(1)];
    let soon = || Patience::lasting(Duration::from_secs(5));
    let mut granted: HashMap<Task, Granted> = HashMap::new();
    for step in &input.steps {
        match step {
            Step::Acquire(agent, task) => {
                let agent = usize::from(*agent);
                let is_live = granted.get(task).is_some_and(|lease| lease.deadline_boot_ms > clock.boot_ms());
                match managers[agent].acquire(&task.text(), &plan, soon()).expect("an answer") {
                    Acquisition::Acquired(_) => {
                        assert!(!is_live, "a second live lease");
                        assert!(
                            managers[agent].holds(&task.text(), &plan, Patience::Now).expect("an answer")
                        );
                        let deadline_boot_ms = clock.boot_ms() + 10_000;
                        granted.insert(*task, Granted { agent, deadline_boot_ms });
                    }
                    Acquisition::Held { remaining_ms, .. } => assert!(remaining_ms > 0),
                }
            }
            Step::Renew(agent, task) => {
                let agent = usize::from(*agent);
                let answer = managers[agent].renew(&task.text(), &plan, soon()).expect("an answer");
                if let Renewal::Renewed { .. } = answer {
                    if let Some(lease) = granted.get(task) {
                        assert_eq!(lease.agent, agent, "renewed somebody else's");
                    }
                    let deadline_boot_ms = clock.boot_ms() + 10_000;
                    granted.insert(*task, Granted { agent, deadline_boot_ms });
                }
            }
            Step::Release(agent, task) => {
                let agent = usize::from(*agent);
                if managers[agent].release(&task.text(), &plan, soon()).expect("an answer") {
                    let lease = granted.remove(task);
                    assert!(lease.is_none_or(|lease| lease.agent == agent), "released somebody else's");
                }
            }
            Step::ReleaseAll(agent) => {
                managers[usize::from(*agent)].release_all(soon()).expect("an answer");
                granted.retain(|_, lease| lease.agent != usize::from(*agent));
            }
            Step::Get(task) => drop(managers[0].get(&task.text(), &plan, Patience::Now).expect("an answer")),
            Step::Stats => {
                let stats = managers[0].stats(soon()).expect("an answer");
                assert_eq!(stats.total_leases, stats.active_leases + stats.expired_leases);
            }
            Step::Sweep => {
                sweep_now(&database, &*clock);
                granted.retain(|_, lease| lease.deadline_boot_ms > clock.boot_ms());
            }
            Step::Reopen => managers = [open(0), open(1)],
            Step::Advance(ms) => clock.advance(i64::from(*ms)),
            Step::StepWall(ms) => clock.step_wall((*ms).into()),
            Step::Reboot => {
                clock.reboot();
                granted.clear();
            }
            Step::Insert(row) => {
                if insert(&other, row) {
                    granted.remove(&row.task);
                }
            }
            Step::Update(task, column, value) => {
                let sql = format!(
                    "UPDATE phase_leases SET {} = {} WHERE task_id = ? AND phase = 'PLAN'",
                    column.name(),
                    value.sql()
                );
                if other.execute(&sql, [value.value(), task.value()]).is_ok_and(|rows| rows > 0) {
                    granted.remove(task);
                }
            }
            Step::Delete(task) => {
                let sql = "DELETE FROM phase_leases WHERE task_id = ? AND phase = 'PLAN'";
                other.execute(sql, [task.value()]).expect("deleted");
                granted.remove(task);
            }
        }
        for task in [Task::One, Task::Two, Task::Lone] {
            let holds =
                |agent: usize| managers[agent].holds(&task.text(), &plan, Patience::Now).expect("an answer");
            assert!(!(holds(0) && holds(1)), "two holders");
            if let Some(lease) = granted.get(&task) {
                assert_eq!(holds(lease.agent), lease.deadline_boot_ms > clock.boot_ms());
            }
        }
    }
});

//! The ledger, with one operation that fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftlock::clock::SystemClock;
use driftlock::durability::Durability;
use driftlock::ledger::{FileLedger, LedgerStore, Transition};
use driftlock::patience::Patience;

use super::sweep::{self, Scenario, check_error, lines};

pub(crate) fn sweep() {
    sweep::sweep::<Appended>();
}

struct Appended {
    store: FileLedger,
    /// Only reads, and for the first time when all is written.
    reader: FileLedger,
    durability: Durability,
    /// The lines that were acknowledged.
    lines: Vec<serde_json::Value>,
    attempts: usize,
}

pub(crate) fn store(root: &Path) -> FileLedger {
    FileLedger::new(root, Arc::new(SystemClock))
}

pub(crate) fn step(task: &str, phase: &str) -> Transition {
    Transition { task_id: task.into(), to_phase: phase.into(), ..Transition::default() }
}

fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(5))
}

impl Appended {
    fn append(&mut self, root: &Path, tasks: &[&str]) {
        let steps: Vec<Transition> = tasks.iter().map(|task| step(task, "PLAN")).collect();
        self.attempts += tasks.len();
        match self.store.append(&steps.iter().collect::<Vec<_>>(), self.durability, patience()) {
            Ok(lines) => self.lines.extend(lines.iter().map(|line| serde_json::from_str(line).unwrap())),
            Err(error) => check_error(&error, root),
        }
    }

    fn check_file(&self, root: &Path) {
        let found = lines(&root.join("state/process/ledger.jsonl"));
        let mut rest = found.iter();
        for line in &self.lines {
            assert!(rest.any(|found| found == line), "{line} is lost or out of its place");
        }
        assert!(found.len() <= self.attempts);
        let check = self.store.verify(patience()).unwrap();
        assert!(check.is_valid(), "{check:?}");
        assert_eq!(check.entries_checked, found.len() as u64);
    }
}

impl Scenario for Appended {
    fn run(root: &Path, durability: Durability) -> Self {
        let mut this =
            Self { store: store(root), reader: store(root), durability, lines: Vec::new(), attempts: 0 };
        if let Err(error) = this.store.initialize(durability, patience()) {
            check_error(&error, root);
        }
        this.append(root, &["a"]);
        this.append(root, &["a", "b", "a"]);
        for answer in [this.store.stats(patience()).err(), this.store.verify(patience()).err()] {
            answer.inspect(|error| check_error(error, root));
        }
        this.append(root, &["b"]);
        this.append(root, &["c", "c"]);
        this.reader.stats(patience()).err().inspect(|error| check_error(error, root));
        this.store.history(&"a".into(), patience()).err().inspect(|error| check_error(error, root));
        this
    }

    fn check_as_left(&self, root: &Path) {
        // The lock is free for others, whichever call has failed.
        let other = store(root);
        other.append(&[], Durability::Process, Patience::lasting(Duration::from_millis(50))).unwrap();
        self.check_file(root);
    }

    fn check(mut self, root: &Path) {
        let entries = self.reader.stats(patience()).unwrap().total_entries;
        assert_eq!(entries, lines(&root.join("state/process/ledger.jsonl")).len() as u64);
        for fresh in [false, true] {
            if fresh {
                self.store = store(root);
            }
            let before = self.lines.len();
            self.append(root, &["new"]);
            assert_eq!(self.lines.len(), before + 1, "an append still fails");
            self.check_file(root);
            let stats = self.store.stats(patience()).unwrap();
            assert_eq!(stats.damaged_lines, 0);
            assert_eq!(stats.total_entries, lines(&root.join("state/process/ledger.jsonl")).len() as u64);
            assert_eq!(
                stats.last_hash.to_string(),
                self.lines.last().unwrap()["entry_hash"].as_str().unwrap()
            );
            assert!(self.store.history(&"new".into(), patience()).unwrap().len() > usize::from(fresh));
        }
    }
}

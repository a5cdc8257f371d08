//! What is promised of every ledger, on each kind of store.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::entry::GENESIS;
use super::{FileLedger, LedgerStore, Transition, Verification};
use crate::clock::ManualClock;
use crate::durability::Durability;
use crate::error::Error;
use crate::gate::{self, Guard};
use crate::patience::Patience;
use crate::text::Text;

const START: i64 = 1_767_225_600_000;

/// A workspace, whose clock stands still.
struct Fixture {
    folder: TempDir,
    #[cfg(unix)]
    schema: Option<crate::postgres::testing::TestSchema>,
}

/// Runs tests on each kind of store: on what `Fixture` of the module makes.
macro_rules! on_each_store {
    ($($test:ident,)+) => {
        mod on_files {
            $(#[test] fn $test() { super::$test(&super::Fixture::on_files()); })+
        }

        #[cfg(unix)]
        mod on_postgres {
            $(#[test] fn $test() {
                if let Some(fixture) = super::Fixture::on_postgres() {
                    super::$test(&fixture);
                }
            })+
        }
    };
}
pub(crate) use on_each_store;

impl Fixture {
    fn on_files() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            #[cfg(unix)]
            schema: None,
        }
    }

    #[cfg(unix)]
    fn on_postgres() -> Option<Self> {
        let schema = crate::postgres::testing::TestSchema::new()?;
        super::PostgresLedger::new(&schema.url()).unwrap().initialize(Durability::Process, soon()).unwrap();
        schema.stop_clock(START);
        Some(Self { schema: Some(schema), ..Self::on_files() })
    }

    /// The ledger, as another process would have it.
    fn ledger(&self) -> Box<dyn LedgerStore> {
        #[cfg(unix)]
        if let Some(schema) = &self.schema {
            return Box::new(super::PostgresLedger::new(&schema.url()).unwrap());
        }
        Box::new(FileLedger::new(self.folder.path(), Arc::new(ManualClock::new(START))))
    }
}

on_each_store![
    entries_are_chained_across_instances,
    a_batch_is_one_chain,
    an_empty_ledger_is_valid_and_has_no_history,
    statistics_count_entries_and_tasks,
    many_at_once_lose_nothing,
    texts_of_any_kind_are_kept,
    a_closed_gate_keeps_everything_out,
];

fn soon() -> Patience {
    Patience::lasting(Duration::from_secs(20))
}

fn step(task: &str, phase: &str) -> Transition {
    Transition { task_id: task.into(), to_phase: phase.into(), ..Transition::default() }
}

fn append(ledger: &dyn LedgerStore, task: &str, phase: &str) {
    ledger.append(&[&step(task, phase)], Durability::Process, soon()).unwrap();
}

fn entries_are_chained_across_instances(fixture: &Fixture) {
    let (one, two) = (fixture.ledger(), fixture.ledger());
    for number in 0..10 {
        append(&*one, "a", &format!("P{number}"));
        append(&*two, "b", &format!("P{number}"));
    }
    let found = one.verify(soon()).unwrap();
    assert!(found.is_valid(), "{found:?}");
    assert_eq!(found.entries_checked, 20);
    assert_eq!(one.current_phase(&"b".into(), soon()).unwrap(), Some("P9".into()));
    assert_eq!(two.history(&"a".into(), soon()).unwrap().len(), 10);
}

fn a_batch_is_one_chain(fixture: &Fixture) {
    let ledger = fixture.ledger();
    let steps = [step("a", "1"), step("a", "2"), step("b", "1")];
    let lines = ledger.append(&steps.each_ref(), Durability::PowerCut, soon()).unwrap();
    assert_eq!(lines.len(), 3);
    let read = fixture.ledger().history(&"a".into(), soon()).unwrap();
    assert_eq!(read, [lines[0].as_bytes(), lines[1].as_bytes()]);
    assert!(ledger.verify(soon()).unwrap().is_valid());
}

fn an_empty_ledger_is_valid_and_has_no_history(fixture: &Fixture) {
    let ledger = fixture.ledger();
    ledger.initialize(Durability::Process, soon()).unwrap();
    assert!(!ledger.exists(soon()).unwrap());
    assert_eq!(ledger.verify(soon()).unwrap(), Verification::default());
    assert_eq!(ledger.current_phase(&"a".into(), soon()).unwrap(), None);
    assert!(ledger.history(&"a".into(), soon()).unwrap().is_empty());
    let stats = ledger.stats(soon()).unwrap();
    assert_eq!((stats.total_entries, stats.last_hash), (0, GENESIS.into()));
    append(&*ledger, "a", "1");
    assert!(fixture.ledger().exists(soon()).unwrap());
}

fn statistics_count_entries_and_tasks(fixture: &Fixture) {
    let ledger = fixture.ledger();
    append(&*ledger, "a", "1");
    append(&*ledger, "b", "1");
    append(&*ledger, "a", "2");
    let stats = fixture.ledger().stats(soon()).unwrap();
    assert_eq!((stats.total_entries, stats.unique_tasks, stats.damaged_lines), (3, 2, 0));
    assert_eq!(stats.oldest_entry, Some("2026-01-01T00:00:00.000Z".into()));
    assert_eq!(stats.newest_entry, stats.oldest_entry);
    let last = ledger.history(&"a".into(), soon()).unwrap().pop().unwrap();
    assert!(String::from_utf8(last).unwrap().contains(&format!("\"entry_hash\":\"{}\"", stats.last_hash)));
}

fn many_at_once_lose_nothing(fixture: &Fixture) {
    std::thread::scope(|scope| {
        for n in 0..8 {
            let ledger = fixture.ledger();
            scope.spawn(move || {
                for round in 0..25 {
                    append(&*ledger, &n.to_string(), &round.to_string());
                }
            });
        }
    });
    let ledger = fixture.ledger();
    let found = ledger.verify(soon()).unwrap();
    assert!(found.is_valid() && found.entries_checked == 200, "{found:?}");
    for n in 0..8 {
        assert_eq!(ledger.history(&n.to_string().as_str().into(), soon()).unwrap().len(), 25);
        assert_eq!(ledger.current_phase(&n.to_string().as_str().into(), soon()).unwrap(), Some("24".into()));
    }
}

fn texts_of_any_kind_are_kept(fixture: &Fixture) {
    let ledger = fixture.ledger();
    let texts: [Text; 5] = [
        Text::default(),
        "\0\"\\\n\u{2028}".into(),
        Text::from_utf16(&[0xD83D]),
        Text::from_utf16(&[0xDE00, 0x61]),
        "\u{1F600}".repeat(50_000).into(),
    ];
    for text in &texts {
        let step = Transition {
            task_id: text.clone(),
            from_phase: Some(text.clone()),
            to_phase: text.clone(),
            evidence_artifacts: vec![text.clone(), text.clone()],
            agent_type: Some(text.clone()),
            persona_hash: Some(text.clone()),
            duration_ms: Some(1e21),
            ..Transition::default()
        };
        let line = ledger.append(&[&step], Durability::Process, soon()).unwrap().remove(0);
        assert_eq!(ledger.history(text, soon()).unwrap(), [line.as_bytes()]);
        assert_eq!(ledger.current_phase(text, soon()).unwrap().as_ref(), Some(text));
    }
    let found = ledger.verify(soon()).unwrap();
    assert!(found.is_valid() && found.entries_checked == 5, "{found:?}");
}

fn a_closed_gate_keeps_everything_out(fixture: &Fixture) {
    let ledger = fixture.ledger();
    let append = |guard| ledger.append_through(guard, &[&step("a", "1")], Durability::Process, soon());
    assert!(matches!(append(Guard::Gate(&|_| Err(Error::Closed))), Err(Error::Closed)));
    assert_eq!(ledger.stats(soon()).unwrap().total_entries, 0);
    append(Guard::Gate(&gate::open)).unwrap();
    assert_eq!(ledger.stats(soon()).unwrap().total_entries, 1);
}

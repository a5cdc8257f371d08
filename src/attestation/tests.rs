//! What is promised of every store of attestations, on each kind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::record::Record;
use super::spec::Optional;
use super::store::Prepared;
use super::{Attestation, AttestationStore, BaselineUpdate, FileAttestations, PromptSpec, Severity};
use crate::clock::ManualClock;
use crate::durability::Durability;
use crate::error::Error;
use crate::gate::{self, Guard};
use crate::ledger::tests::on_each_store;
use crate::patience::Patience;
use crate::text::Text;

const START: i64 = 1_767_225_600_000;

/// A workspace, whose clock stands still.
struct Fixture {
    folder: TempDir,
    #[cfg(unix)]
    schema: Option<crate::postgres::testing::TestSchema>,
}

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
        let store = super::PostgresAttestations::new(&schema.url()).unwrap();
        store.initialize(Durability::Process, soon()).unwrap();
        schema.stop_clock(START);
        Some(Self { schema: Some(schema), ..Self::on_files() })
    }

    /// The store, as another process would have it.
    fn store(&self) -> Box<dyn AttestationStore> {
        #[cfg(unix)]
        if let Some(schema) = &self.schema {
            return Box::new(super::PostgresAttestations::new(&schema.url()).unwrap());
        }
        Box::new(FileAttestations::new(self.folder.path(), Arc::new(ManualClock::new(START))))
    }
}

on_each_store![
    the_first_prompt_is_the_baseline_and_another_is_drift,
    of_prompts_attested_together_only_one_is_the_first,
    stores_of_one_workspace_share_their_baselines,
    of_many_at_once_one_is_the_first_and_nothing_is_lost,
    a_reset_counts_and_drops_the_persona,
    another_persona_is_told,
    texts_of_any_kind_are_kept,
    a_closed_gate_keeps_everything_out,
];

fn soon() -> Patience {
    Patience::lasting(Duration::from_secs(20))
}

fn prompt(task: &str, context: &str) -> Prepared {
    Prepared::new(PromptSpec {
        task_id: task.into(),
        phase: "VERIFY".into(),
        requirements: vec![context.into()],
        ..PromptSpec::default()
    })
}

fn attest_one(store: &dyn AttestationStore, prompt: &Prepared) -> Attestation {
    let answer = store.attest(&[prompt], Durability::Process, soon()).unwrap().remove(0);
    assert!(answer.error.is_none(), "{:?}", answer.error);
    answer
}

fn attest(store: &dyn AttestationStore, task: &str, context: &str) -> Attestation {
    attest_one(store, &prompt(task, context))
}

fn history(store: &dyn AttestationStore, task: &Text) -> Vec<Record> {
    let lines = store.history(task, soon()).unwrap();
    lines.iter().map(|line| Record::from_line(line).unwrap()).collect()
}

fn the_first_prompt_is_the_baseline_and_another_is_drift(fixture: &Fixture) {
    let store = fixture.store();
    let first = attest(&*store, "a", "1");
    assert!(first.baseline_hash.is_none() && !first.drift.is_drift());
    assert!(!attest(&*store, "a", "1").drift.is_drift());
    let other = attest(&*store, "a", "2");
    assert_eq!(other.drift.severity, Severity::High);
    assert_eq!(other.baseline_hash, Some(first.current_hash.into()));
    let records = history(&*fixture.store(), &"a".into());
    let baselines: Vec<bool> = records.iter().map(|record| record.baseline_hash.is_some()).collect();
    assert_eq!(baselines, [false, true, true]);
    assert_eq!(records[2].timestamp, Some("2026-01-01T00:00:00.000Z".into()));
    let stats = store.stats(soon()).unwrap();
    assert_eq!((stats.total_attestations, stats.drift_detections), (3, 1));
    assert_eq!(stats.severity_counts, [("high".into(), 1), ("none".into(), 2)].into());
}

fn of_prompts_attested_together_only_one_is_the_first(fixture: &Fixture) {
    let store = fixture.store();
    let prompts = [prompt("a", "1"), prompt("a", "2"), prompt("b", "1"), prompt("a", "1")];
    let answers = store.attest(&prompts.each_ref(), Durability::PowerCut, soon()).unwrap();
    let drifts: Vec<bool> = answers.iter().map(|answer| answer.drift.is_drift()).collect();
    assert_eq!(drifts, [false, true, false, false]);
    assert_eq!(answers.iter().filter(|answer| answer.baseline_hash.is_none()).count(), 2);
    let hashes: Vec<Text> =
        history(&*store, &"a".into()).into_iter().filter_map(|record| record.prompt_hash).collect();
    let expected = [0, 1, 3].map(|position: usize| Text::from(prompts[position].hash().as_str()));
    assert_eq!(hashes, expected);
}

fn stores_of_one_workspace_share_their_baselines(fixture: &Fixture) {
    let (one, two) = (fixture.store(), fixture.store());
    for number in 0..10 {
        let (first, second) = if number % 2 == 0 { (&one, &two) } else { (&two, &one) };
        assert!(attest(&**first, &format!("t{number}"), "x").baseline_hash.is_none());
        assert!(attest(&**second, &format!("t{number}"), "y").drift.is_drift());
    }
}

fn of_many_at_once_one_is_the_first_and_nothing_is_lost(fixture: &Fixture) {
    let firsts = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (store, firsts) = (fixture.store(), &firsts);
            scope.spawn(move || {
                for round in 0..25 {
                    let answer = attest(&*store, &round.to_string(), &n.to_string());
                    firsts.fetch_add(usize::from(answer.baseline_hash.is_none()), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(firsts.into_inner(), 25);
    let store = fixture.store();
    let stats = store.stats(soon()).unwrap();
    assert_eq!((stats.total_attestations, stats.drift_detections), (200, 175));
    for round in 0..25 {
        let task = round.to_string().as_str().into();
        let mut baselines: Vec<_> =
            history(&*store, &task).into_iter().map(|record| record.baseline_hash).collect();
        assert_eq!(baselines.len(), 8);
        baselines.sort();
        baselines.dedup();
        // None, and that of the first.
        assert_eq!(baselines.len(), 2);
    }
}

fn a_reset_counts_and_drops_the_persona(fixture: &Fixture) {
    let store = fixture.store();
    let with_persona = |persona: &str| {
        let spec = PromptSpec { persona_hash: Optional::Text(persona.into()), ..prompt("a", "1").spec };
        Prepared::new(spec)
    };
    attest_one(&*store, &with_persona("p"));
    let hash: Text = with_persona("q").hash().as_str().into();
    let reset = |task: &str| {
        let update = BaselineUpdate { reason: Some("agreed".into()), ..BaselineUpdate::default() };
        store.reset(&task.into(), &"VERIFY".into(), &hash, update, Durability::PowerCut, soon()).unwrap();
    };
    reset("a");
    reset("new");
    let answer = attest_one(&*fixture.store(), &with_persona("q"));
    assert!(!answer.drift.is_drift() && answer.drift.persona_details.is_none());
    assert!(attest(&*store, "new", "1").drift.is_drift());
    let version = |task: &str| history(&*store, &task.into()).pop().unwrap().baseline_version;
    assert_eq!((version("a"), version("new")), (Some(2), Some(1)));
}

fn another_persona_is_told(fixture: &Fixture) {
    let store = fixture.store();
    let attest = |persona: Optional| {
        let spec = PromptSpec { persona_hash: persona, ..prompt("a", "1").spec };
        attest_one(&*store, &Prepared::new(spec)).drift.persona_details
    };
    let text = |text: &str| Optional::Text(text.into());
    assert_eq!(attest(text("p")), None);
    assert_eq!(attest(text("q")).as_deref(), Some("Persona changed from p to q"));
    assert_eq!([attest(text("p")), attest(text("")), attest(Optional::Null)], [None, None, None]);
    let lines = store.history(&"a".into(), soon()).unwrap();
    let told = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("\"persona_drift\":true");
    assert_eq!(lines.iter().map(told).collect::<Vec<_>>(), [false, true, false, false, false]);
}

fn texts_of_any_kind_are_kept(fixture: &Fixture) {
    let store = fixture.store();
    let texts: [Text; 5] = [
        Text::default(),
        "\0\"\\\n\u{2028}".into(),
        Text::from_utf16(&[0xD83D]),
        Text::from_utf16(&[0xDE00, 0x61]),
        "\u{1F600}".repeat(50_000).into(),
    ];
    for text in &texts {
        let optional = || Optional::Text(text.clone());
        let prompt = Prepared::new(PromptSpec {
            task_id: text.clone(),
            phase: text.clone(),
            persona_hash: optional(),
            persona_summary: optional(),
            agent_type: optional(),
            model_version: optional(),
            ..PromptSpec::default()
        });
        assert!(attest_one(&*store, &prompt).baseline_hash.is_none());
        assert!(!attest_one(&*store, &prompt).drift.is_drift());
        let records = history(&*store, text);
        assert_eq!(records.len(), 2);
        assert_eq!((records[1].task_id.as_ref(), records[1].phase.as_ref()), (Some(text), Some(text)));
        assert_eq!(records[1].persona_hash.as_ref(), Some(text));
    }
}

fn a_closed_gate_keeps_everything_out(fixture: &Fixture) {
    let store = fixture.store();
    let prompt = prompt("a", "1");
    let attest = |guard| store.attest_through(guard, &[&prompt], Durability::Process, soon());
    assert!(matches!(attest(Guard::Gate(&|_| Err(Error::Closed))), Err(Error::Closed)));
    assert_eq!(store.stats(soon()).unwrap().total_attestations, 0);
    assert!(attest(Guard::Gate(&gate::open)).unwrap()[0].baseline_hash.is_none());
    assert_eq!(store.stats(soon()).unwrap().total_attestations, 1);
}

//! Attestations of a workspace, as the binding uses them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftlock::attestation::store::Prepared;
use driftlock::attestation::{Attestation, AttestationStore, BaselineUpdate, FileAttestations, PromptSpec};
use driftlock::clock::ManualClock;
use driftlock::durability::Durability;
use driftlock::log;
use driftlock::patience::Patience;
use driftlock::text::Text;

struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Self {
        log::set_level(None);
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> FileAttestations {
        FileAttestations::new(self.folder.path(), Arc::new(ManualClock::new(1_767_225_600_000)))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("state/process").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn baselines(&self) -> serde_json::Value {
        serde_json::from_str(&self.read("prompt_baselines.json")).unwrap()
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::create_dir_all(self.file("")).unwrap();
        std::fs::write(self.file(name), content).unwrap();
    }

    fn kept_aside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.file("")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains("prompt_baselines.json.damaged-"))
            .collect()
    }
}

fn prompt(task: &str, context: &str) -> Prepared {
    Prepared::new(PromptSpec {
        task_id: task.into(),
        phase: "VERIFY".into(),
        requirements: vec![context.into()],
        ..PromptSpec::default()
    })
}

fn attest(store: &FileAttestations, task: &str, context: &str) -> Attestation {
    store.attest(&[&prompt(task, context)], Durability::Process, patient()).unwrap().pop().unwrap()
}

fn patient() -> Patience {
    Patience::lasting(Duration::from_secs(10))
}

fn replace_in(path: &Path, from: &str, to: &str) {
    let content = std::fs::read_to_string(path).unwrap();
    assert!(content.contains(from));
    std::fs::write(path, content.replace(from, to)).unwrap();
}

#[test]
fn prompts_attested_together_are_a_line_each_and_a_baseline_for_each_task() {
    let workspace = Workspace::new();
    let store = workspace.store();
    let prompts = [prompt("a", "1"), prompt("a", "2"), prompt("b", "1"), prompt("a", "1")];
    store.attest(&prompts.each_ref(), Durability::Process, Patience::Now).unwrap();
    assert_eq!(workspace.baselines().as_object().unwrap().len(), 2);
    assert_eq!(workspace.read("prompt_attestations.jsonl").lines().count(), 4);
}

#[test]
fn a_missing_baselines_file_makes_the_next_attestation_the_first() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    std::fs::remove_file(workspace.file("prompt_baselines.json")).unwrap();
    assert!(attest(&store, "a", "2").baseline_hash.is_none());
    assert!(!attest(&store, "a", "2").drift.is_drift());
    assert_eq!(workspace.baselines().as_object().unwrap().len(), 1);
}

#[test]
fn a_damaged_baselines_file_is_kept_aside_and_its_baselines_saved() {
    let workspace = Workspace::new();
    let store = workspace.store();
    for task in ["a", "b", "c"] {
        attest(&store, task, "1");
    }
    let whole = workspace.read("prompt_baselines.json");
    let torn = &whole[..whole.find("\"c:VERIFY\"").unwrap() - 30];
    workspace.write("prompt_baselines.json", torn);
    for task in ["a", "b", "c"] {
        assert!(attest(&store, task, "2").drift.is_drift(), "{task}");
    }
    assert_eq!(workspace.baselines().as_object().unwrap().len(), 3);
    let kept = workspace.kept_aside();
    assert_eq!(kept.len(), 1);
    assert_eq!(std::fs::read_to_string(&kept[0]).unwrap(), torn);
}

#[test]
fn an_edit_by_hand_counts_at_once() {
    let workspace = Workspace::new();
    let store = workspace.store();
    let first = attest(&store, "a", "1").current_hash;
    let other = prompt("a", "2").hash().clone();
    replace_in(&workspace.file("prompt_baselines.json"), &first, &other);
    assert!(attest(&store, "a", "1").drift.is_drift());
    assert!(!attest(&store, "a", "2").drift.is_drift());
}

#[test]
fn older_files_go_on() {
    let workspace = Workspace::new();
    let hash = prompt("a", "1").hash().clone();
    workspace.write("prompt_baselines.json", &format!("{{\n  \"a:VERIFY\": \"{hash}\"\n}}"));
    workspace.write("prompt_attestations.jsonl", "{\"task_id\":\"a\",\"drift_detected\":true}\n");
    let store = workspace.store();
    assert!(!attest(&store, "a", "1").drift.is_drift());
    assert!(attest(&store, "a", "2").drift.is_drift());
    assert_eq!(store.history(&"a".into(), Patience::Now).unwrap().len(), 3);
    assert_eq!(store.stats(Patience::Now).unwrap().severity_counts[&Text::from("unknown")], 1);
}

#[test]
fn a_reset_is_recorded_and_counts() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    let hash: Text = prompt("a", "2").hash().as_str().into();
    let update = BaselineUpdate { reason: Some("agreed".into()), ..BaselineUpdate::default() };
    store
        .reset(&"a".into(), &"VERIFY".into(), &hash, update.clone(), Durability::Process, Patience::Now)
        .unwrap();
    assert!(!attest(&store, "a", "2").drift.is_drift());
    assert_eq!(workspace.baselines()["a:VERIFY"]["version"], 2);
    store.reset(&"new".into(), &"PLAN".into(), &hash, update, Durability::Process, Patience::Now).unwrap();
    assert_eq!(workspace.baselines()["new:PLAN"]["version"], 1);
    let updates = workspace.read("prompt_baseline_updates.jsonl");
    assert!(updates.starts_with(&format!(
        "{{\"taskId\":\"a\",\"phase\":\"VERIFY\",\"hash\":\"{hash}\",\"version\":2,\
         \"updatedAt\":\"2026-01-01T00:00:00.000Z\",\"reason\":\"agreed\"}}\n"
    )));
}

#[test]
fn a_log_that_can_not_be_written_does_not_silence_drift() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    std::fs::remove_file(workspace.file("prompt_attestations.jsonl")).unwrap();
    std::fs::create_dir(workspace.file("prompt_attestations.jsonl")).unwrap();
    let answer = attest(&store, "a", "2");
    assert!(answer.drift.is_drift());
    let error = answer.error.unwrap();
    assert_eq!(error.code(), "IO");
    assert!(error.to_string().contains("prompt_attestations.jsonl"), "{error}");
    std::fs::remove_dir(workspace.file("prompt_attestations.jsonl")).unwrap();
    assert!(attest(&store, "a", "2").error.is_none());
}

#[test]
fn baselines_that_can_not_be_read_count_as_none_and_are_left_alone() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    let aside = workspace.file("elsewhere");
    std::fs::rename(workspace.file("prompt_baselines.json"), &aside).unwrap();
    std::fs::create_dir(workspace.file("prompt_baselines.json")).unwrap();
    let answer = attest(&store, "a", "2");
    assert!(!answer.drift.is_drift() && answer.error.is_some() && !answer.current_hash.is_empty());
    std::fs::remove_dir(workspace.file("prompt_baselines.json")).unwrap();
    std::fs::rename(&aside, workspace.file("prompt_baselines.json")).unwrap();
    assert!(attest(&store, "a", "2").drift.is_drift());
}

#[test]
fn a_damaged_line_hides_no_other() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    let line = workspace.read("prompt_attestations.jsonl");
    workspace.write("prompt_attestations.jsonl", &format!("{{\"task_id\":\n{line}\0\0\n{line}"));
    assert_eq!(store.history(&"a".into(), Patience::Now).unwrap().len(), 2);
    let stats = store.stats(Patience::Now).unwrap();
    assert_eq!((stats.total_attestations, stats.damaged_lines), (2, 2));
}

#[test]
fn initializing_makes_what_is_absent_and_keeps_what_is_there() {
    let workspace = Workspace::new();
    let store = workspace.store();
    store.initialize(Durability::Process, Patience::Now).unwrap();
    assert_eq!(workspace.baselines(), serde_json::json!({}));
    assert_eq!(workspace.read("prompt_baseline_updates.jsonl"), "");
    attest(&store, "a", "1");
    workspace.store().initialize(Durability::Process, Patience::Now).unwrap();
    assert_eq!(workspace.baselines().as_object().unwrap().len(), 1);
}

#[test]
fn who_cannot_wait_writes_no_large_file_anew() {
    let workspace = Workspace::new();
    let store = workspace.store();
    let prompts: Vec<Prepared> = (0..1000).map(|task| prompt(&task.to_string(), "1")).collect();
    let prompts: Vec<&Prepared> = prompts.iter().collect();
    store.attest(&prompts, Durability::Process, patient()).unwrap();
    let (baselines, log) =
        (workspace.read("prompt_baselines.json"), workspace.read("prompt_attestations.jsonl"));
    assert!(baselines.len() > 128 << 10);

    let (task, phase, hash) = ("1".into(), "VERIFY".into(), "f".into());
    let reset = |patience| {
        store.reset(&task, &phase, &hash, BaselineUpdate::default(), Durability::Process, patience)
    };
    assert_eq!(reset(Patience::Now).unwrap_err().code(), "JOURNAL_LOCKED");
    assert!(!workspace.file("prompt_baseline_updates.jsonl").exists());
    assert_eq!(workspace.read("prompt_baselines.json"), baselines);

    let mut refusals = 0;
    for task in 0..2000 {
        let prompt = prompt(&format!("new {task}"), "1");
        let attest = |patience| store.attest(&[&prompt], Durability::Process, patience);
        if let Err(error) = attest(Patience::Now) {
            assert_eq!(error.code(), "JOURNAL_LOCKED");
            attest(patient()).unwrap();
            refusals += 1;
        }
    }
    assert!((1..20).contains(&refusals), "{refusals}");
    assert_eq!(workspace.baselines().as_object().unwrap().len(), 3000);
    assert_eq!(workspace.read("prompt_attestations.jsonl").lines().count(), log.lines().count() + 2000);

    reset(patient()).unwrap();
    assert_eq!(workspace.baselines()["1:VERIFY"]["hash"], "f");
}

#[test]
fn who_cannot_wait_mends_nothing() {
    let workspace = Workspace::new();
    let store = workspace.store();
    attest(&store, "a", "1");
    workspace.write("prompt_baselines.json", "{");
    let refused = store.attest(&[&prompt("a", "2")], Durability::Process, Patience::Now).unwrap_err();
    assert_eq!(refused.code(), "JOURNAL_LOCKED");
    assert_eq!(workspace.read("prompt_baselines.json"), "{");
    assert!(attest(&store, "a", "2").drift.is_drift());
}

//! Files that are not what they seem: links in the places of ours, and who may read what is made.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftlock::attestation::store::Prepared;
use driftlock::attestation::{AttestationStore, BaselineUpdate, FileAttestations, PromptSpec};
use driftlock::clock::ManualClock;
use driftlock::durability::Durability;
use driftlock::ledger::{FileLedger, LedgerStore, Transition};
use driftlock::log;
use driftlock::patience::Patience;

const PRECIOUS: &str = "{\"task_id\":\"T\",\"secret\":1}\n";

struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        log::set_level(None);
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("state/process")).unwrap();
        std::fs::write(folder.path().join("precious"), PRECIOUS).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("state/process").join(name)
    }

    /// Puts a link to somebody's file in the place of ours.
    fn link(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name));
        symlink(self.0.path().join("precious"), self.path(name)).unwrap();
    }

    fn precious(&self) -> String {
        std::fs::read_to_string(self.0.path().join("precious")).unwrap()
    }

    fn attestations(&self) -> FileAttestations {
        FileAttestations::new(self.0.path(), Arc::new(ManualClock::new(1_767_225_600_000)))
    }

    fn ledger(&self) -> FileLedger {
        FileLedger::new(self.0.path(), Arc::new(ManualClock::new(1_767_225_600_000)))
    }
}

fn prompt() -> Prepared {
    Prepared::new(PromptSpec { task_id: "T".into(), phase: "PLAN".into(), ..PromptSpec::default() })
}

#[test]
fn a_link_in_the_place_of_a_file_of_attestations_is_not_followed() {
    for name in [
        ".prompt_attestations.lock",
        "prompt_attestations.jsonl",
        "prompt_baselines.json",
        "prompt_baselines.json.tmp",
    ] {
        let workspace = Workspace::new();
        workspace.link(name);
        let store = workspace.attestations();
        match store.attest(&[&prompt()], Durability::Process, Patience::Now) {
            Ok(answers) => assert!(answers[0].error.is_some(), "{name}"),
            Err(error) => assert_eq!(error.code(), "IO", "{name}"),
        }
        assert_eq!(workspace.precious(), PRECIOUS, "{name}");
    }
    let workspace = Workspace::new();
    workspace.link("prompt_baseline_updates.jsonl");
    let store = workspace.attestations();
    let reset = store.reset(
        &"T".into(),
        &"PLAN".into(),
        &"h".into(),
        BaselineUpdate::default(),
        Durability::Process,
        Patience::Now,
    );
    assert_eq!(reset.unwrap_err().code(), "IO");
    assert_eq!(workspace.precious(), PRECIOUS);
}

#[test]
fn what_a_link_in_the_place_of_a_journal_leads_to_is_not_read() {
    let workspace = Workspace::new();
    workspace.link("prompt_attestations.jsonl");
    workspace.link("ledger.jsonl");
    let history = workspace.attestations().history(&"T".into(), Patience::Now);
    assert_eq!(history.unwrap_err().code(), "IO");
    assert_eq!(workspace.ledger().verify(Patience::Now).unwrap_err().code(), "IO");
    assert_eq!(workspace.ledger().history(&"T".into(), Patience::Now).unwrap_err().code(), "IO");
}

#[test]
fn a_link_in_the_place_of_a_file_of_the_ledger_is_not_followed() {
    for name in [".ledger.lock", "ledger.jsonl"] {
        let workspace = Workspace::new();
        workspace.link(name);
        let appended =
            workspace.ledger().append(&[&Transition::default()], Durability::Process, Patience::Now);
        assert_eq!(appended.unwrap_err().code(), "IO", "{name}");
        assert_eq!(workspace.precious(), PRECIOUS, "{name}");
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn locks_are_private_and_all_else_is_as_the_umask_says() {
    let workspace = Workspace::new();
    let probe = workspace.0.path().join("probe");
    std::fs::write(&probe, "").unwrap();
    std::fs::create_dir(workspace.0.path().join("folder")).unwrap();
    let (file, folder) = (mode(&probe), mode(&workspace.0.path().join("folder")));
    std::fs::remove_dir_all(workspace.0.path().join("state")).unwrap();

    let store = workspace.attestations();
    store.initialize(Durability::Process, Patience::Now).unwrap();
    assert!(store.attest(&[&prompt()], Durability::Process, Patience::Now).unwrap()[0].error.is_none());
    workspace.ledger().append(&[&Transition::default()], Durability::Process, Patience::Now).unwrap();
    for name in [".prompt_attestations.lock", ".ledger.lock"] {
        assert_eq!(mode(&workspace.path(name)), 0o600, "{name}");
    }
    for name in [
        "prompt_attestations.jsonl",
        "prompt_baselines.json",
        "prompt_baseline_updates.jsonl",
        "ledger.jsonl",
    ] {
        assert_eq!(mode(&workspace.path(name)), file, "{name}");
    }
    assert_eq!(mode(&workspace.path("")), folder);
    assert_eq!(mode(&workspace.0.path().join("state")), folder);
}

#[test]
fn what_is_put_aside_is_for_the_same_readers() {
    for private in [0o600, 0o640] {
        let workspace = Workspace::new();
        for (name, torn) in [("ledger.jsonl", "{\"half"), ("prompt_baselines.json", "{\"T:PLAN\":{\"hash")] {
            std::fs::write(workspace.path(name), torn).unwrap();
            std::fs::set_permissions(workspace.path(name), PermissionsExt::from_mode(private)).unwrap();
        }
        let patience = Patience::lasting(Duration::from_secs(10));
        workspace.ledger().append(&[&Transition::default()], Durability::Process, patience).unwrap();
        workspace.attestations().attest(&[&prompt()], Durability::Process, patience).unwrap();
        let mut aside = 0;
        for entry in std::fs::read_dir(workspace.path("")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.contains(".damaged-") {
                aside += 1;
            }
            if name.contains(".damaged-") || name.ends_with("baselines.json") {
                assert_eq!(mode(&path), private, "{name}");
            }
        }
        assert_eq!(aside, 2);
    }
}

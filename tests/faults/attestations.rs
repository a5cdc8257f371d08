//! Attestations, with one operation that fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftlock::attestation::store::Prepared;
use driftlock::attestation::{AttestationStore, BaselineUpdate, FileAttestations, PromptSpec};
use driftlock::clock::SystemClock;
use driftlock::durability::Durability;
use driftlock::patience::Patience;

use super::sweep::{self, Scenario, check_error, lines};

pub(crate) fn sweep() {
    sweep::sweep::<Attested>();
}

/// What was answered.
struct Attested {
    store: FileAttestations,
    durability: Durability,
    /// Task and hash of each record that was acknowledged.
    records: Vec<(String, String)>,
    /// The baseline of each task: one if it was acknowledged, more if something failed.
    baselines: BTreeMap<String, BTreeSet<Option<String>>>,
}

pub(crate) fn prompt(task: &str, context: &str) -> Prepared {
    Prepared::new(PromptSpec {
        task_id: task.into(),
        phase: "VERIFY".into(),
        requirements: vec![context.into()],
        ..PromptSpec::default()
    })
}

pub(crate) fn store(root: &Path) -> FileAttestations {
    FileAttestations::new(root, Arc::new(SystemClock))
}

fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(5))
}

impl Attested {
    fn attest(&mut self, root: &Path, prompts: &[(&str, &str)]) {
        let prepared: Vec<Prepared> = prompts.iter().map(|(task, context)| prompt(task, context)).collect();
        let prepared: Vec<&Prepared> = prepared.iter().collect();
        let answers = match self.store.attest(&prepared, self.durability, patience()) {
            Ok(answers) => answers,
            // Not even the lock could be had.
            Err(error) => return check_error(&error, root),
        };
        for (prompt, answer) in prepared.iter().zip(answers) {
            let task = prompt.spec.task_id.to_string();
            let found = answer.baseline_hash.as_ref().map(ToString::to_string);
            let known = self.baselines.entry(task.clone()).or_insert_with(|| BTreeSet::from([None]));
            if let Some(error) = &answer.error {
                check_error(error, root);
                if found.is_none() {
                    known.insert(Some(prompt.hash().clone()));
                }
                continue;
            }
            assert!(known.contains(&found), "{task}: {found:?}, not {known:?}");
            let is_drift = found.as_ref().is_some_and(|hash| hash != prompt.hash());
            assert_eq!(answer.drift.is_drift(), is_drift);
            *known = BTreeSet::from([Some(found.unwrap_or_else(|| prompt.hash().clone()))]);
            self.records.push((task, prompt.hash().clone()));
        }
    }

    fn reset(&mut self, root: &Path, task: &str, context: &str) {
        let hash = prompt(task, context).hash().clone();
        let update = BaselineUpdate { reason: Some("meant".into()), ..BaselineUpdate::default() };
        let result = self.store.reset(
            &task.into(),
            &"VERIFY".into(),
            &hash.as_str().into(),
            update,
            self.durability,
            patience(),
        );
        let known = self.baselines.entry(task.to_owned()).or_insert_with(|| BTreeSet::from([None]));
        match result {
            Ok(()) => *known = BTreeSet::from([Some(hash)]),
            Err(error) => {
                known.insert(Some(hash));
                check_error(&error, root);
            }
        }
    }

    fn check_files(&self, root: &Path) {
        let folder = root.join("state/process");
        let mut found: Vec<(String, String)> = lines(&folder.join("prompt_attestations.jsonl"))
            .iter()
            .map(|line| (text(&line["task_id"]), text(&line["prompt_hash"])))
            .collect();
        for record in &self.records {
            let position = found.iter().position(|line| line == record);
            found.swap_remove(position.unwrap_or_else(|| panic!("{record:?} is lost")));
        }
        lines(&folder.join("prompt_baseline_updates.jsonl"));
        let Ok(content) = std::fs::read(folder.join("prompt_baselines.json")) else {
            assert!(self.baselines.values().all(|hashes| hashes.contains(&None)), "no baselines");
            return;
        };
        let content: serde_json::Value = serde_json::from_slice(&content).unwrap();
        for (task, hashes) in &self.baselines {
            let hash = content[format!("{task}:VERIFY")]["hash"].as_str().map(ToOwned::to_owned);
            assert!(hashes.contains(&hash), "{task}: {hash:?}, not {hashes:?}");
        }
    }
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

impl Scenario for Attested {
    fn run(root: &Path, durability: Durability) -> Self {
        let mut this =
            Self { store: store(root), durability, records: Vec::new(), baselines: BTreeMap::new() };
        if let Err(error) = this.store.initialize(durability, patience()) {
            check_error(&error, root);
        }
        this.attest(root, &[("a", "1")]);
        this.attest(root, &[("b", "1"), ("b", "1")]);
        this.attest(root, &[("a", "2")]);
        this.reset(root, "a", "2");
        // More than the padding takes, so that the file is replaced.
        let long: Vec<String> = (0..40).map(|number| format!("{number}-{}", "x".repeat(400))).collect();
        this.attest(root, &long.iter().map(|task| (task.as_str(), "1")).collect::<Vec<_>>());
        this.attest(root, &[("c", "1"), ("a", "2")]);
        if let Err(error) = this.store.stats(patience()) {
            check_error(&error, root);
        }
        this
    }

    fn check_as_left(&self, root: &Path) {
        self.check_files(root);
        let names = std::fs::read_dir(root.join("state/process")).into_iter().flatten();
        for name in names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()) {
            assert!(!name.contains(".damaged-"), "{name}");
        }
    }

    fn check(mut self, root: &Path) {
        for fresh in [false, true] {
            if fresh {
                self.store = store(root);
            }
            let before = self.records.len();
            for (task, context) in [("a", "3"), ("b", "3"), ("new", "1"), ("new", "2")] {
                self.attest(root, &[(task, context)]);
            }
            assert_eq!(self.records.len(), before + 4, "an attestation still fails");
            let stats = self.store.stats(patience()).unwrap();
            assert_eq!(stats.damaged_lines, 0);
            assert_eq!(
                stats.total_attestations,
                lines(&root.join("state/process/prompt_attestations.jsonl")).len() as u64
            );
            self.reset(root, "b", if fresh { "3" } else { "4" });
        }
        assert!(self.baselines["b"].len() == 1 && self.baselines["a"].len() == 1);
        self.check_files(root);
        assert!(!root.join("state/process/prompt_baselines.json.tmp").exists());
    }
}

//! The power is cut at each sync, and in between, and the package opens what is left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use driftlock::attestation::AttestationStore as _;
use driftlock::attestation::BaselineUpdate;
use driftlock::clock::ManualClock;
use driftlock::durability::Durability;
use driftlock::lease::{Acquisition, LeaseManager, LeaseOptions, Patience};
use driftlock::ledger::LedgerStore as _;

use super::replay::{Chance, Operation, cut, operations};
use super::{attestations, ledger, shim};

/// Says which durability a job asks for.
const DURABILITY: &str = "FAULT_DURABILITY";
/// How many processes write at the same time.
const WRITERS: usize = 2;
const START_MS: i64 = 1_767_225_600_000;

fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(5))
}

fn asked() -> Durability {
    if std::env::var(DURABILITY).is_ok_and(|name| name == "sync") {
        Durability::PowerCut
    } else {
        Durability::Process
    }
}

/// Tells the shim's record that something was acknowledged.
fn acknowledge(folder: &Path, what: &str) {
    std::fs::create_dir(folder.join("acknowledged").join(what)).unwrap();
}

/// What this writer's tasks are called.
fn writer() -> String {
    std::env::var(shim::WRITER).unwrap()
}

/// Makes a task's name so long that not many fit into a page.
fn task(name: &str) -> String {
    format!("{name}-{}", "x".repeat(3000))
}

/// Attests, resets and appends, with a mark for each answer.
pub(crate) fn write_files() {
    let (folder, durability, writer) = (shim::job_folder(), asked(), writer());
    std::fs::create_dir_all(folder.join("acknowledged")).unwrap();
    let root = folder.join("workspace");
    let (prompts, ledger) = (attestations::store(&root), ledger::store(&root));
    prompts.initialize(durability, patience()).unwrap();
    for number in 0..20 / WRITERS {
        let name = format!("{writer}.{number}");
        let task = task(&name);
        let prompt = attestations::prompt(&task, "1");
        let answer = prompts.attest(&[&prompt], durability, patience()).unwrap().pop().unwrap();
        assert!(answer.error.is_none(), "{answer:?}");
        acknowledge(&folder, &format!("baseline {name}"));
        if number % 2 == 0 {
            let hash = attestations::prompt(&task, "2").hash().as_str().into();
            let update = BaselineUpdate::default();
            prompts
                .reset(&task.clone().into(), &"VERIFY".into(), &hash, update, durability, patience())
                .unwrap();
            acknowledge(&folder, &format!("reset {name}"));
        }
        let line = ledger.append(&[&ledger::step(&task, "PLAN")], durability, patience()).unwrap().concat();
        let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
        acknowledge(&folder, &format!("entry {}", entry["entry_hash"].as_str().unwrap()));
    }
}

/// Acquires, with a mark for each token.
pub(crate) fn write_leases() {
    let (folder, writer) = (shim::job_folder(), writer());
    std::fs::create_dir_all(folder.join("acknowledged")).unwrap();
    let manager = open(&folder.join("workspace"), &Arc::new(ManualClock::new(START_MS)), asked());
    for number in 0..20 / WRITERS {
        let name = format!("{writer}.{number}");
        acknowledge(&folder, &format!("token {} {name}", acquire(&manager, &name)));
    }
}

fn open(root: &Path, clock: &Arc<ManualClock>, durability: Durability) -> LeaseManager {
    let options = LeaseOptions { lease_duration_ms: 600_000, durability, ..LeaseOptions::of("agent".into()) };
    LeaseManager::open(root, options, Arc::<ManualClock>::clone(clock)).unwrap()
}

fn acquire(manager: &LeaseManager, task: &str) -> i64 {
    match manager.acquire(&task.into(), &"PLAN".into(), patience()).unwrap() {
        Acquisition::Acquired(lease) => lease.fencing_token,
        Acquisition::Held { .. } => panic!("{task} is held after a power cut"),
    }
}

/// Runs a job in several processes, and gives each state that a power cut could leave to `check`, with what was acknowledged before it.
fn each_cut(job: &str, durability: &str, check: impl Fn(&Path, &BTreeSet<String>, bool)) {
    let folder = shim::folder();
    let record = tempfile::NamedTempFile::new().unwrap();
    shim::record_jobs(job, folder.path(), record.path(), WRITERS, &[(DURABILITY, durability)]);
    let made = operations(record.path());
    assert!(made.iter().any(Operation::is_sync), "nothing was synced");
    let rounds = if shim::is_long() { 20 } else { 1 };
    let marks: PathBuf = folder.path().join("acknowledged");
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    for at in 0..=made.len() {
        let is_at_sync = made.get(at).is_some_and(Operation::is_sync) || at == made.len();
        if !is_at_sync && !shim::is_long() && chance.below(4) > 0 {
            continue;
        }
        let acknowledged = made[..at].iter().filter_map(|operation| operation.mark(&marks)).collect();
        for round in 0..=rounds {
            let target = shim::folder();
            let left = (round > 0).then_some(&mut chance);
            let is_clean = left.is_none();
            cut(&made[..at], folder.path(), target.path(), left);
            let _place = Place(format!("{at} of {}: {:?}", made.len(), made[..at].last()));
            check(&target.path().join("workspace"), &acknowledged, is_clean);
        }
    }
}

/// Says, if a check panics, where the power was cut.
struct Place(String);

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("cut after {}", self.0.chars().take(400).collect::<String>());
        }
    }
}

fn check_files(root: &Path, acknowledged: &BTreeSet<String>, is_clean: bool, all: bool) {
    driftlock::log::set_level(None);
    let store = ledger::store(root);
    store.append(&[&ledger::step("after", "PLAN")], Durability::Process, patience()).unwrap();
    let content = std::fs::read_to_string(root.join("state/process/ledger.jsonl"));
    let content = content.unwrap_or_default();
    if is_clean {
        // Nothing but the synced part is there, so the chain is whole.
        assert!(store.verify(patience()).unwrap().is_valid());
    }
    let prompts = attestations::store(root);
    for mark in acknowledged.iter().filter(|_| all) {
        match mark.split_once(' ').unwrap() {
            ("entry", hash) => {
                assert!(content.contains(&format!("\"entry_hash\":\"{hash}\"")), "{hash} is lost");
            }
            (kind, name) => {
                // Against the prompt of a reset baseline there is no drift, against that of the first one there is.
                let prompt = attestations::prompt(&task(name), if kind == "reset" { "2" } else { "3" });
                let answer =
                    prompts.attest(&[&prompt], Durability::Process, patience()).unwrap().pop().unwrap();
                assert!(
                    answer.error.is_none() && answer.baseline_hash.is_some(),
                    "baseline {name} is lost: {answer:?}"
                );
                assert_eq!(answer.drift.is_drift(), kind != "reset", "{mark}: {answer:?}");
            }
        }
    }
    // Whatever is left, work goes on, and what is written now is whole.
    let prompt = attestations::prompt("after", "1");
    let answer = prompts.attest(&[&prompt], Durability::Process, patience()).unwrap().pop().unwrap();
    assert!(answer.error.is_none(), "{answer:?}");
    let baselines = std::fs::read(root.join("state/process/prompt_baselines.json")).unwrap();
    let baselines: serde_json::Value = serde_json::from_slice(&baselines).unwrap();
    assert!(baselines["after:VERIFY"]["hash"].is_string());
}

#[test]
fn with_sync_files_keep_all_that_was_acknowledged() {
    each_cut("power-files", "sync", |root, acknowledged, clean| check_files(root, acknowledged, clean, true));
}

#[test]
fn without_sync_files_are_valid_or_mended() {
    let folder = shim::folder();
    let record = tempfile::NamedTempFile::new().unwrap();
    shim::record_jobs("power-files", folder.path(), record.path(), WRITERS, &[]);
    let made = operations(record.path());
    assert!(!made.iter().any(Operation::is_sync), "something was synced");
    let mut chance = Chance(7);
    for _ in 0..if shim::is_long() { 500 } else { 40 } {
        let at = chance.below(made.len() + 1);
        let target = shim::folder();
        cut(&made[..at], folder.path(), target.path(), Some(&mut chance));
        check_files(&target.path().join("workspace"), &BTreeSet::new(), false, false);
    }
}

#[test]
fn no_token_is_repeated_after_a_power_cut() {
    for durability in ["process", "sync"] {
        each_cut("power-leases", durability, |root, acknowledged, _| {
            let clock = Arc::new(ManualClock::new(START_MS + 1000));
            clock.reboot();
            let manager = open(root, &clock, Durability::Process);
            let token = acquire(&manager, "after");
            for mark in acknowledged {
                let mut words = mark.split(' ').skip(1);
                let before: i64 = words.next().unwrap().parse().unwrap();
                assert!(token > before, "{token} after {before}");
                let task = words.next().unwrap();
                if durability == "sync" {
                    let lease = manager.get(&task.into(), &"PLAN".into(), patience()).unwrap();
                    assert_eq!(lease.map(|lease| lease.fencing_token), Some(before), "lease {task} is lost");
                }
            }
        });
    }
}

//! The operations of the core that are measured, each on a workspace of its own.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use driftlock::attestation::store::Prepared;
use driftlock::attestation::{AttestationStore, FileAttestations, PromptSpec};
use driftlock::clock::{Clock, ManualClock};
use driftlock::durability::Durability;
use driftlock::lease::{Acquisition, LeaseManager, LeaseOptions, Renewal};
use driftlock::ledger::{FileLedger, LedgerStore, Transition};
use driftlock::lock::{FileLocks, Owner};
use driftlock::patience::Patience;
use driftlock::text::Text;
use tempfile::TempDir;

/// How many records, entries or baselines there are where an operation's cost could depend on it.
const PREPARED: usize = 1000;
/// Records and entries of one task.
const OF_ONE_TASK: usize = 10;

/// One operation, ready to be repeated. It panics if it doesn't succeed.
pub(crate) type Operation = Box<dyn FnMut()>;

/// An operation's name, and what makes it ready.
type Named = (&'static str, fn() -> Operation);

/// Every operation.
pub(crate) const OPERATIONS: &[Named] = &[
    ("hash_prompt", hash_prompt),
    ("lease_acquire_release", lease_acquire_release),
    ("lease_renew", lease_renew),
    ("lease_holds", lease_holds),
    ("lease_refused", lease_refused),
    ("attest_first", attest_first),
    ("attest_repeated", attest_repeated),
    ("attestation_history", attestation_history),
    ("attestation_stats", attestation_stats),
    ("attestation_open", attestation_open),
    ("ledger_append", ledger_append),
    ("ledger_history", ledger_history),
    ("ledger_verify", ledger_verify),
    ("ledger_open", ledger_open),
    ("file_lock", file_lock),
];

/// Makes an operation ready.
///
/// # Panics
/// If there is none with this name.
pub(crate) fn prepare(name: &str) -> Operation {
    let (_, prepare) =
        OPERATIONS.iter().find(|operation| operation.0 == name).expect("the name of an operation");
    prepare()
}

/// The default of the package.
const DURABILITY: Durability = Durability::Process;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// A checkpoint in the background may be in the way for a moment.
fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(3600))
}

/// A clock that stands still, so that the same is done in each run.
fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(1_767_225_600_000))
}

fn leases(workspace: &Path, agent: &str) -> LeaseManager {
    let options =
        LeaseOptions { max_renewals: u64::MAX, durability: DURABILITY, ..LeaseOptions::of(agent.into()) };
    LeaseManager::open(workspace, options, clock()).expect("a lease manager")
}

fn task(number: usize) -> Text {
    format!("TASK-{number}").into()
}

fn prompt(number: usize) -> Prepared {
    let texts = |texts: &[&str]| texts.iter().map(|text| Text::from(*text)).collect();
    Prepared::new(PromptSpec {
        phase: "IMPLEMENT".into(),
        task_id: task(number),
        requirements: texts(&["parse dates", "keep time zones", "reject nonsense"]),
        quality_gates: texts(&["tests", "lint"]),
        artifacts: texts(&["src/dates.ts", "src/zones.ts"]),
        ..PromptSpec::default()
    })
}

fn transition(number: usize) -> Transition {
    Transition {
        task_id: task(number),
        from_phase: Some("PLAN".into()),
        to_phase: "IMPLEMENT".into(),
        evidence_artifacts: vec!["src/dates.ts".into()],
        evidence_validated: true,
        ..Transition::default()
    }
}

/// A workspace with attestations, and its store.
fn attestations() -> (TempDir, FileAttestations) {
    let folder = folder();
    let store = FileAttestations::new(folder.path(), clock());
    let prompts: Vec<Prepared> = (0..PREPARED).map(|number| prompt(number / OF_ONE_TASK)).collect();
    store.attest(&prompts.iter().collect::<Vec<_>>(), DURABILITY, patience()).expect("attestations");
    (folder, store)
}

/// A workspace with a ledger, and its store.
fn ledger() -> (TempDir, FileLedger) {
    let folder = folder();
    let store = FileLedger::new(folder.path(), clock());
    store.initialize(DURABILITY, patience()).expect("a folder");
    let transitions: Vec<Transition> = (0..PREPARED).map(|number| transition(number / OF_ONE_TASK)).collect();
    store.append(&transitions.iter().collect::<Vec<_>>(), DURABILITY, patience()).expect("entries");
    (folder, store)
}

fn attest(store: &FileAttestations, prompt: &Prepared, is_first: bool) {
    let answers = store.attest(&[prompt], DURABILITY, patience()).expect("an attestation");
    assert!(answers[0].error.is_none() && answers[0].baseline_hash.is_none() == is_first);
}

fn hash_prompt() -> Operation {
    let spec = prompt(0).spec;
    Box::new(move || drop(black_box(spec.hash())))
}

fn lease_acquire_release() -> Operation {
    let folder = folder();
    let manager = leases(folder.path(), "agent");
    let mut number = 0;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        let (task, phase) = (task(number % 1000), "PLAN".into());
        let acquired = manager.acquire(&task, &phase, patience()).expect("an answer");
        assert!(matches!(acquired, Acquisition::Acquired(_)));
        assert!(manager.release(&task, &phase, patience()).expect("an answer"));
    })
}

/// A lease that `holder` has acquired, and that `caller` then does something with.
fn with_lease(caller: &str, mut work: impl FnMut(&LeaseManager, &Text, &Text) + 'static) -> Operation {
    let folder = folder();
    let holder = leases(folder.path(), "holder");
    let (task, phase): (Text, Text) = ("TASK".into(), "PLAN".into());
    let acquired = holder.acquire(&task, &phase, patience()).expect("an answer");
    assert!(matches!(acquired, Acquisition::Acquired(_)));
    let caller = leases(folder.path(), caller);
    Box::new(move || {
        let _ = (&folder, &holder);
        work(&caller, &task, &phase);
    })
}

fn lease_renew() -> Operation {
    with_lease("holder", |manager, task, phase| {
        let renewal = manager.renew(task, phase, patience()).expect("an answer");
        assert!(matches!(renewal, Renewal::Renewed { .. }));
    })
}

fn lease_holds() -> Operation {
    with_lease("holder", |manager, task, phase| {
        assert!(manager.holds(task, phase, patience()).expect("an answer"));
    })
}

fn lease_refused() -> Operation {
    with_lease("another", |manager, task, phase| {
        let refused = manager.acquire(task, phase, patience()).expect("an answer");
        assert!(matches!(refused, Acquisition::Held { .. }));
    })
}

fn attest_first() -> Operation {
    let (folder, store) = attestations();
    let mut number = PREPARED;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        attest(&store, &prompt(number), true);
    })
}

fn attest_repeated() -> Operation {
    let (folder, store) = attestations();
    let mut number = 0;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        attest(&store, &prompt(number % (PREPARED / OF_ONE_TASK)), false);
    })
}

fn attestation_history() -> Operation {
    let (folder, store) = attestations();
    store.stats(patience()).expect("statistics");
    let mut number = 0;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        let history = store.history(&task(number % (PREPARED / OF_ONE_TASK)), patience());
        assert_eq!(history.expect("a history").len(), OF_ONE_TASK);
    })
}

fn attestation_stats() -> Operation {
    let (folder, store) = attestations();
    store.stats(patience()).expect("statistics");
    Box::new(move || {
        let _ = &folder;
        assert_eq!(store.stats(patience()).expect("statistics").total_attestations, PREPARED as u64);
    })
}

fn attestation_open() -> Operation {
    let (folder, _) = attestations();
    let prompt = prompt(0);
    Box::new(move || {
        let store = FileAttestations::new(folder.path(), clock());
        let answers = store.attest(&[&prompt], DURABILITY, patience()).expect("an attestation");
        assert!(answers[0].baseline_hash.is_some());
        assert!(store.stats(patience()).expect("statistics").total_attestations > PREPARED as u64);
    })
}

fn ledger_append() -> Operation {
    let (folder, store) = ledger();
    let mut number = 0;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        let lines = store.append(&[&transition(number)], DURABILITY, patience()).expect("an entry");
        assert_eq!(lines.len(), 1);
    })
}

fn ledger_history() -> Operation {
    let (folder, store) = ledger();
    store.stats(patience()).expect("statistics");
    let mut number = 0;
    Box::new(move || {
        let _ = &folder;
        number += 1;
        let history = store.history(&task(number % (PREPARED / OF_ONE_TASK)), patience());
        assert_eq!(history.expect("a history").len(), OF_ONE_TASK);
    })
}

fn ledger_verify() -> Operation {
    let (folder, store) = ledger();
    Box::new(move || {
        let _ = &folder;
        let found = store.verify(patience()).expect("a verification");
        assert!(found.is_valid() && found.entries_checked == PREPARED as u64);
    })
}

fn ledger_open() -> Operation {
    let (folder, _) = ledger();
    Box::new(move || {
        let store = FileLedger::new(folder.path(), clock());
        assert_eq!(store.stats(patience()).expect("statistics").total_entries, PREPARED as u64);
    })
}

fn file_lock() -> Operation {
    let folder = folder();
    let path = folder.path().join("work.lock");
    let (locks, owner) = (FileLocks::default(), Owner::new());
    Box::new(move || {
        let _ = &folder;
        assert!(locks.try_acquire(&path, &owner).expect("an answer"));
        locks.release(&path);
    })
}

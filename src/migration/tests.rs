//! There and back.

use std::path::PathBuf;

use super::*;
use crate::attestation::store::Prepared;
use crate::attestation::{
    AttestationStore, BaselineUpdate, FileAttestations, PostgresAttestations, PromptSpec,
};
use crate::clock::SystemClock;
use crate::durability::Durability;
use crate::lease::{Acquisition, Lease, LeaseManager, LeaseOptions, PostgresLeaseStore, Renewal};
use crate::ledger::{FileLedger, PostgresLedger, Transition};
use crate::postgres::proxy::{Loss, Proxy};
use crate::postgres::testing::{TestSchema, TestServer, url_at};
use crate::text::Text;

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn soon() -> Patience {
    Patience::lasting(Duration::from_secs(20))
}

fn t(text: &str) -> Text {
    text.into()
}

fn run(from: Place<'_>, to: Place<'_>) -> Result<Report> {
    migrate(from, to, &clock(), false, &|_| ())
}

/// A workspace of files.
struct Workspace(tempfile::TempDir);

impl Workspace {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn place(&self) -> Place<'_> {
        Place::Workspace(self.0.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("state/process").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }

    fn ledger(&self) -> FileLedger {
        FileLedger::new(self.0.path(), clock())
    }

    fn attestations(&self) -> FileAttestations {
        FileAttestations::new(self.0.path(), clock())
    }

    fn leases(&self, agent: &str) -> LeaseManager {
        LeaseManager::open(self.0.path(), LeaseOptions::of(t(agent)), clock()).unwrap()
    }

    /// Some of everything, so many times.
    fn fill(&self, times: usize) {
        let (ledger, attestations) = (self.ledger(), self.attestations());
        for n in 0..times {
            let task = if n % 7 == 0 { Text::from_utf16(&ODD) } else { t(&format!("task {n}")) };
            let step = Transition {
                task_id: task.clone(),
                to_phase: t("PLAN"),
                persona_hash: (n % 2 == 0).then(|| t("persona")),
                duration_ms: Some(1e21),
                ..Transition::default()
            };
            ledger.append(&[&step], Durability::Process, soon()).unwrap();
            for context in ["1", "2"] {
                attest(&attestations, &task, context);
            }
            if n % 3 == 0 {
                reset(&attestations, &task);
            }
        }
    }

    fn lines(&self) -> [String; 3] {
        ["ledger.jsonl", "prompt_attestations.jsonl", "prompt_baseline_updates.jsonl"]
            .map(|name| self.read(name))
    }

    fn baselines(&self) -> Baselines {
        Files::new(self.0.path(), &clock()).baselines().unwrap()
    }
}

/// Half of a surrogate pair, a NUL, a quote.
const ODD: [u16; 3] = [0xD83D, 0, 0x22];

fn attest(store: &dyn AttestationStore, task: &Text, context: &str) {
    let (requirements, phase) = (vec![t(context)], t("VERIFY"));
    let spec = PromptSpec { phase, task_id: task.clone(), requirements, ..PromptSpec::default() };
    store.attest(&[&Prepared::new(spec)], Durability::Process, soon()).unwrap();
}

fn reset(store: &dyn AttestationStore, task: &Text) {
    let update = BaselineUpdate { reason: Some(t("agreed")), ..BaselineUpdate::default() };
    store.reset(task, &t("VERIFY"), &t("h"), update, Durability::Process, soon()).unwrap();
}

fn append(ledger: &dyn LedgerStore, task: &Text) {
    let step = Transition { task_id: task.clone(), to_phase: t("SPEC"), ..Transition::default() };
    ledger.append(&[&step], Durability::Process, soon()).unwrap();
}

fn acquired(manager: &LeaseManager, task: &str) -> Lease {
    match manager.acquire(&t(task), &t("PLAN"), soon()).unwrap() {
        Acquisition::Acquired(lease) => lease,
        held @ Acquisition::Held { .. } => panic!("{held:?}"),
    }
}

fn is_held(manager: &LeaseManager, task: &str) -> bool {
    matches!(manager.acquire(&t(task), &t("PLAN"), soon()).unwrap(), Acquisition::Held { .. })
}

fn on_server(url: &str, agent: &str, folder: &Path) -> LeaseManager {
    let store = PostgresLeaseStore::open(url, folder, &clock()).unwrap();
    LeaseManager::with_store(Arc::new(store), clock(), LeaseOptions::of(t(agent))).unwrap()
}

fn part(total: u64, copied: u64) -> Part {
    Part { total, copied }
}

#[test]
fn records_go_to_a_server_and_back_as_they_are() {
    let Some(schema) = TestSchema::new() else { return };
    let (workspace, back, url) = (Workspace::new(), Workspace::new(), schema.url());
    let server = Place::Server(&url);
    workspace.fill(10);
    let whole = workspace.read("prompt_attestations.jsonl");
    // Of an older version, twice the same, and a damaged one.
    let older = "{\"task_id\":\"old\",  \"drift_detected\":true}\n".repeat(2);
    std::fs::write(workspace.file("prompt_attestations.jsonl"), format!("{older}{{\"torn\n{whole}")).unwrap();

    let planned = migrate(workspace.place(), server, &clock(), true, &|_| ()).unwrap();
    let (ledger, attestations) =
        (PostgresLedger::new(&url).unwrap(), PostgresAttestations::new(&url).unwrap());
    assert!(!ledger.is_made(PATIENCE).unwrap() && !attestations.is_made(PATIENCE).unwrap());
    let told = std::cell::RefCell::new(Vec::new());
    let report =
        migrate(workspace.place(), server, &clock(), false, &|progress| told.borrow_mut().push(progress))
            .unwrap();
    assert_eq!(report, planned);
    let told: Vec<_> = told.take().iter().map(|it| (it.what, it.copied, it.of)).collect();
    assert_eq!(told, [("attestations", 22, 22), ("resets of baselines", 4, 4), ("ledger entries", 10, 10)]);
    assert_eq!((report.entries, report.attestations, report.left_out), (part(10, 10), part(22, 22), 1));
    assert_eq!((report.resets, report.baselines), (part(4, 4), part(9, 9)));
    let again = run(workspace.place(), server).unwrap();
    assert_eq!((again.entries, again.attestations), (part(10, 0), part(22, 0)));
    assert_eq!((again.resets, again.baselines), (part(4, 0), part(9, 0)));

    assert_eq!(ledger.stats(soon()).unwrap(), workspace.ledger().stats(soon()).unwrap());
    let (found, expected) =
        (attestations.stats(soon()).unwrap(), workspace.attestations().stats(soon()).unwrap());
    assert_eq!(found.severity_counts, expected.severity_counts);
    assert_eq!(found.drift_detections, expected.drift_detections);
    for task in [t("old"), t("task 1"), Text::from_utf16(&ODD)] {
        let in_files = workspace.attestations().history(&task, soon()).unwrap();
        assert_eq!(attestations.history(&task, soon()).unwrap(), in_files);
        assert_eq!(
            ledger.history(&task, soon()).unwrap(),
            workspace.ledger().history(&task, soon()).unwrap()
        );
    }

    // The server goes on where the files ended, and files where the server did.
    append(&ledger, &t("task 1"));
    attest(&attestations, &t("task 1"), "3");
    reset(&attestations, &t("task 1"));
    assert!(ledger.verify(soon()).unwrap().is_valid());
    assert_eq!(attestations.stats(soon()).unwrap().drift_detections, expected.drift_detections + 1);
    let report = run(server, back.place()).unwrap();
    assert_eq!(
        (report.entries, report.attestations, report.resets),
        (part(11, 11), part(23, 23), part(5, 5))
    );
    let ([entries, records, resets], [old_entries, _, old_resets]) = (back.lines(), workspace.lines());
    assert!(entries.starts_with(&old_entries) && resets.starts_with(&old_resets));
    assert!(records.starts_with(&format!("{older}{whole}")));
    let mut baselines = workspace.baselines();
    let changed = baselines.get_mut(&t("task 1:VERIFY")).unwrap();
    changed.clone_from(&back.baselines()[&t("task 1:VERIFY")]);
    assert_eq!((changed.version, back.baselines()), (2, baselines));
    append(&back.ledger(), &t("task 1"));
    assert!(back.ledger().verify(soon()).unwrap().is_valid());
}

#[test]
fn what_has_come_since_is_copied_and_what_an_ended_run_has_copied_is_not() {
    let Some(schema) = TestSchema::new() else { return };
    let (workspace, url) = (Workspace::new(), schema.url());
    workspace.fill(5);
    run(workspace.place(), Place::Server(&url)).unwrap();
    workspace.fill(3);
    let (files, target) = (Files::new(workspace.0.path(), &clock()), OnServer::new(&url, &clock()).unwrap());
    // By a run that ended in the middle of the attestations.
    let mut three = |take: &mut lines::Take<'_>| files.attestations().read(10, 13, take).map(drop);
    target.attestations().append(10, &mut three).unwrap();
    let report = run(workspace.place(), Place::Server(&url)).unwrap();
    assert_eq!((report.entries, report.attestations), (part(8, 3), part(16, 3)));
}

#[test]
fn leases_are_still_held_and_no_token_comes_again() {
    let Some(schema) = TestSchema::new() else { return };
    let (workspace, back, url) = (Workspace::new(), Workspace::new(), schema.url());
    let manager = workspace.leases("a");
    let held = acquired(&manager, "held");
    manager.renew(&t("held"), &t("PLAN"), soon()).unwrap();
    // Shown to somebody, then released: what comes behind it must be known as later.
    let shown = acquired(&manager, "shown").fencing_token;
    manager.release(&t("shown"), &t("PLAN"), soon()).unwrap();
    assert_eq!(run(workspace.place(), Place::Server(&url)).unwrap().leases, part(1, 1));
    assert_eq!(run(workspace.place(), Place::Server(&url)).unwrap().leases, part(1, 0));

    let (a, b) = (on_server(&url, "a", workspace.0.path()), on_server(&url, "b", workspace.0.path()));
    let found = a.get(&t("held"), &t("PLAN"), soon()).unwrap().unwrap();
    assert_eq!(
        (&found.lease_id, found.fencing_token, found.renewed_count),
        (&held.lease_id, held.fencing_token, 1)
    );
    assert!(is_held(&b, "held"));
    assert!(matches!(a.renew(&t("held"), &t("PLAN"), soon()).unwrap(), Renewal::Renewed { .. }));
    let next = acquired(&b, "shown");
    assert!(next.fencing_token > shown);

    run(Place::Server(&url), back.place()).unwrap();
    let b = back.leases("b");
    assert_eq!(b.get(&t("shown"), &t("PLAN"), soon()).unwrap().unwrap().lease_id, next.lease_id);
    assert!(is_held(&b, "held"));
    assert!(acquired(&b, "other").fencing_token > next.fencing_token);
}

#[test]
fn a_lease_without_a_token_is_taken_along() {
    let Some(schema) = TestSchema::new() else { return };
    let (workspace, url) = (Workspace::new(), schema.url());
    drop(acquired(&workspace.leases("a"), "t"));
    let database = rusqlite::Connection::open(workspace.0.path().join("state/orchestrator.db")).unwrap();
    let as_of_before =
        "UPDATE phase_leases SET fencing_token = NULL; UPDATE phase_lease_meta SET next_token = 1";
    database.execute_batch(as_of_before).unwrap();
    assert_eq!(run(workspace.place(), Place::Server(&url)).unwrap().leases, part(1, 1));
    assert!(is_held(&on_server(&url, "b", workspace.0.path()), "t"));
}

#[test]
fn a_target_that_is_in_use_is_left_alone() {
    let workspace = Workspace::new();
    workspace.fill(2);
    acquired(&workspace.leases("a"), "t");
    let uses: [fn(&str, &Path); 4] = [
        |url, _| append(&PostgresLedger::new(url).unwrap(), &t("x")),
        |url, _| attest(&PostgresAttestations::new(url).unwrap(), &t("x"), "1"),
        |url, _| reset(&PostgresAttestations::new(url).unwrap(), &t("x")),
        |url, folder| drop(acquired(&on_server(url, "b", folder), "t")),
    ];
    for use_it in uses {
        let Some(schema) = TestSchema::new() else { return };
        let url = schema.url();
        use_it(&url, workspace.0.path());
        let error = run(workspace.place(), Place::Server(&url)).unwrap_err();
        assert_eq!(error.code(), "NOT_MIGRATED", "{error}");
        assert!(error.to_string().contains("nobody has used yet"), "{error}");
        let copied = PostgresLedger::new(&url).unwrap().history(&t("task 1"), soon()).unwrap();
        assert!(copied.is_empty());
    }
}

#[test]
fn a_ledger_that_is_not_whole_is_not_copied() {
    let Some(schema) = TestSchema::new() else { return };
    let workspace = Workspace::new();
    workspace.fill(2);
    let content = workspace.read("ledger.jsonl") + "no JSON\n";
    std::fs::write(workspace.file("ledger.jsonl"), content).unwrap();
    let error = run(workspace.place(), Place::Server(&schema.url())).unwrap_err();
    assert!(error.to_string().contains("ledger is not whole"), "{error}");
}

#[test]
fn nothing_is_added_to_a_ledger_with_a_damaged_line() {
    let Some(schema) = TestSchema::new() else { return };
    let (workspace, back, url) = (Workspace::new(), Workspace::new(), schema.url());
    workspace.fill(3);
    run(workspace.place(), Place::Server(&url)).unwrap();
    run(Place::Server(&url), back.place()).unwrap();
    let damaged = back.read("ledger.jsonl") + "no JSON\n";
    std::fs::write(back.file("ledger.jsonl"), &damaged).unwrap();
    workspace.fill(1);
    run(workspace.place(), Place::Server(&url)).unwrap();
    let error = run(Place::Server(&url), back.place()).unwrap_err();
    assert!(error.to_string().contains("of the ledger the target has some"), "{error}");
    assert_eq!(back.read("ledger.jsonl"), damaged);
}

#[test]
fn what_is_sent_again_is_there_once() {
    let Some(server) = TestServer::shared() else { return };
    let workspace = Workspace::new();
    workspace.fill(5);
    acquired(&workspace.leases("a"), "t");
    let files = Files::new(workspace.0.path(), &clock());
    for loss in [Loss::Request, Loss::Reply] {
        let proxy = Proxy::of(server.port);
        let url = url_at(proxy.port, &TestServer::new_schema());
        let target = OnServer::new(&url, &clock()).unwrap();
        // The schema is there, and a connection, so that it is the call itself that is lost.
        target.ledger().initialize(Durability::Process, soon()).unwrap();
        PostgresAttestations::new(&url).unwrap().initialize(Durability::Process, soon()).unwrap();
        let (leases, closing) = (target.leases(true).unwrap().unwrap(), Closing::default());
        let wait = Wait::new(soon(), &closing);
        leases.list(wait).unwrap();
        target.baselines().unwrap();

        for (from, to) in [
            (files.entries(), target.entries()),
            (files.attestations(), target.attestations()),
            (files.resets(), target.resets()),
        ] {
            let mut losing = |take: &mut lines::Take<'_>| {
                proxy.lose(loss);
                from.read(0, u64::MAX, take).map(drop)
            };
            to.append(0, &mut losing).unwrap();
        }
        proxy.lose(loss);
        target.put_baselines(&workspace.baselines()).unwrap();
        let source = files.leases(false).unwrap().unwrap();
        proxy.lose(loss);
        leases.take_in(&source.list(wait).unwrap(), source.highest_token(wait).unwrap(), wait).unwrap();
        assert_eq!(proxy.losses(), 5);
        // Which looks whether all of it is there.
        let report = run(workspace.place(), Place::Server(&url)).unwrap();
        let copied = [report.entries, report.attestations, report.resets, report.baselines, report.leases];
        assert_eq!(copied.map(|part| part.copied), [0; 5]);
        let stats = PostgresAttestations::new(&url).unwrap().stats(soon()).unwrap();
        assert_eq!(stats.total_attestations, 10);
    }
}

//! A full disk, a folder that can only be read, missing rights and no file descriptors left.
//!
//! Each case needs something of the machine, most of them root; what can't be run is said on standard error.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use driftlock::attestation::AttestationStore as _;
use driftlock::durability::Durability;
use driftlock::lease::{Acquisition, Patience};
use driftlock::ledger::LedgerStore as _;
use driftlock::lock::{FileLocks, Owner};

use super::sweep::check_error;
use super::{attestations, leases, ledger, shim};

/// Names what a job of this module does.
const STEP: &str = "FAULT_STEP";
/// The user that may write nothing: `nobody`.
const NOBODY: u32 = 65534;

fn patience() -> Patience {
    Patience::lasting(Duration::from_secs(5))
}

/// A small file system of its own, gone at the end.
struct Disk(tempfile::TempDir);

impl Disk {
    fn mount(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", options, "tmpfs"], folder.path()).then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn mount(arguments: &[&str], folder: &Path) -> bool {
    let mounted = Command::new("mount").args(arguments).arg(folder).output();
    mounted.is_ok_and(|output| output.status.success())
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn not_run(case: &str, why: &str) {
    // Not by a macro, whose output of a test that passes is kept back.
    let _ = writeln!(std::io::stderr(), "not run: {case} ({why})");
}

fn step(name: &str, folder: &Path) -> Command {
    let mut command = shim::job_command("limits", folder);
    command.env(STEP, name);
    command
}

#[test]
fn a_full_disk() {
    let Some(disk) = Disk::mount("size=1m") else { return not_run("a full disk", "nothing can be mounted") };
    shim::check_output(&step("full", disk.path()).output().unwrap());
}

#[test]
fn a_file_system_that_is_read_only() {
    let Some(disk) = Disk::mount("size=4m") else { return not_run("read-only", "nothing can be mounted") };
    shim::check_output(&step("prepare", disk.path()).output().unwrap());
    assert!(mount(&["-o", "remount,ro"], disk.path()));
    shim::check_output(&step("readable", disk.path()).output().unwrap());
    assert!(mount(&["-o", "remount,rw"], disk.path()));
    shim::check_output(&step("works", disk.path()).output().unwrap());
}

#[test]
fn missing_rights() {
    if !is_root() {
        return not_run("missing rights", "not root");
    }
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    // A copy that another user can get at.
    let program = folder.path().join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let root = folder.path().join("workspace");
    fs::create_dir(&root).unwrap();
    let as_nobody = |name: &str| {
        let mut command = Command::new(&program);
        command.args(["job", "--exact", "--nocapture"]).uid(NOBODY).gid(NOBODY);
        command.env(shim::JOB, "limits").env("FAULT_FOLDER", &root).env(STEP, name).output().unwrap()
    };
    shim::check_output(&step("prepare", &root).output().unwrap());
    shim::check_output(&as_nobody("readable"));
    shim::check_output(&step("works", &root).output().unwrap());

    // Everything but the baselines, in a folder in which they could be replaced.
    let process = root.join("state/process");
    for path in [root.join("state"), process.clone(), process.join("prompt_attestations.jsonl")] {
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(process.join(".prompt_attestations.lock"), Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(process.join("prompt_baselines.json"), Permissions::from_mode(0o600)).unwrap();
    let before = fs::read(process.join("prompt_baselines.json")).unwrap();
    shim::check_output(&as_nobody("no-baselines"));
    assert_eq!(fs::read(process.join("prompt_baselines.json")).unwrap(), before);
    shim::check_output(&step("works", &root).output().unwrap());
}

#[test]
fn no_descriptors_left() {
    let folder = tempfile::tempdir().unwrap();
    let job = step("descriptors", folder.path());
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$@\"", "sh"]).arg(job.get_program()).args(job.get_args());
    limited.envs(job.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shim::check_output(&limited.output().unwrap());
}

/// The other side of the tests above.
pub(crate) fn job() {
    let root = shim::job_folder();
    match std::env::var(STEP).unwrap().as_str() {
        "prepare" => prepare(&root),
        "works" => works(&root),
        "readable" => {
            refused(&root, &["right", "readonly"]);
            readable(&root);
        }
        "no-baselines" => no_baselines(&root),
        "full" => full(&root),
        "descriptors" => descriptors(&root),
        other => panic!("no step {other}"),
    }
}

fn prepare(root: &Path) {
    let store = attestations::store(root);
    store.initialize(Durability::Process, patience()).unwrap();
    assert!(attest(root, "a", "1").error.is_none());
    append(root).unwrap();
    acquire(root, "a").unwrap();
}

/// All that can be done works, and nothing of what was prepared is lost.
fn works(root: &Path) {
    let drifted = attest(root, "a", "2");
    assert!(drifted.error.is_none() && drifted.drift.is_drift(), "{drifted:?}");
    append(root).unwrap();
    assert!(ledger::store(root).verify(patience()).unwrap().is_valid());
    assert!(matches!(acquire(root, "a").unwrap(), Acquisition::Held { .. }));
    assert!(matches!(acquire(root, &uuid()).unwrap(), Acquisition::Acquired(_)));
    let (locks, owner, path) = (FileLocks::default(), Owner::new(), root.join("work.lock"));
    assert!(locks.try_acquire(&path, &owner).unwrap());
    locks.release(&path);
    assert_eq!(leftovers(root), Vec::<PathBuf>::new());
}

/// Nothing can be written, and every answer says why.
fn refused(root: &Path, causes: &[&str]) {
    let check = |error: &driftlock::Error| {
        check_error(error, root);
        let message = error.to_string();
        assert!(causes.iter().any(|cause| message.contains(cause)), "{message}");
    };
    // Longer than what is left of the last block of a file on a full disk.
    let new = format!("new-{}", "x".repeat(20_000));
    let prompts = [&attestations::prompt(&new, "1")];
    let store = attestations::store(root);
    match store.attest(&prompts, Durability::Process, patience()) {
        Ok(answers) => check(answers[0].error.as_ref().unwrap()),
        Err(error) => check(&error),
    }
    check(&append_for(root, &new).unwrap_err());
    check(&acquire(root, &new).map(drop).unwrap_err());
    check(&FileLocks::default().try_acquire(&root.join("new.lock"), &Owner::new()).unwrap_err());
}

/// What doesn't need to write does its work.
fn readable(root: &Path) {
    let attestations = attestations::store(root);
    assert_eq!(attestations.history(&"a".into(), patience()).unwrap().len(), 1);
    assert_eq!(attestations.stats(patience()).unwrap().total_attestations, 1);
    let ledger = ledger::store(root);
    assert_eq!(ledger.stats(patience()).unwrap().total_entries, 1);
    let check = ledger.verify(patience()).unwrap();
    assert!(check.is_valid() && check.entries_checked == 1, "{check:?}");
}

fn no_baselines(root: &Path) {
    for task in ["a", "new"] {
        let answer = attest(root, task, "2");
        check_error(answer.error.as_ref().unwrap(), root);
        assert!(
            answer.baseline_hash.is_none() && !answer.current_hash.is_empty() && !answer.drift.is_drift()
        );
    }
}

fn full(root: &Path) {
    prepare(root);
    let filler = root.join("filler");
    for _ in 0..3 {
        let mut file = File::create(&filler).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        refused(root, &["free some space", "may be full"]);
        drop(file);
        fs::remove_file(&filler).unwrap();
        works(root);
    }
}

fn descriptors(root: &Path) {
    prepare(root);
    let mut all = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        all.push(file);
    }
    refused(root, &["ulimit -n"]);
    drop(all);
    works(root);
}

fn attest(root: &Path, task: &str, context: &str) -> driftlock::attestation::Attestation {
    let prompt = attestations::prompt(task, context);
    attestations::store(root).attest(&[&prompt], Durability::Process, patience()).unwrap().pop().unwrap()
}

fn append(root: &Path) -> driftlock::Result<Vec<String>> {
    append_for(root, "a")
}

fn append_for(root: &Path, task: &str) -> driftlock::Result<Vec<String>> {
    ledger::store(root).append(&[&ledger::step(task, "PLAN")], Durability::Process, patience())
}

fn acquire(root: &Path, task: &str) -> driftlock::Result<Acquisition> {
    leases::open(root, "agent", Durability::Process)?.acquire(&task.into(), &"PLAN".into(), patience())
}

fn uuid() -> String {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).to_string()
}

/// Half files that somebody would have to clean up.
fn leftovers(root: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(root.join("state/process")).unwrap().map(|entry| entry.unwrap().path());
    let is_left = |path: &PathBuf| {
        let name = path.to_string_lossy();
        name.ends_with(".tmp") || name.contains(".damaged-")
    };
    files.filter(is_left).collect()
}

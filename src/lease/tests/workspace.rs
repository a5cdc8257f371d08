//! The files: opened, closed, damaged, removed, replaced.

use std::fs;

use super::*;
use crate::error::Error;
use crate::lease::{ClockSource, DatabaseHealth, StoreHealth};

fn state_files(fixture: &Fixture) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(fixture.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[cfg(target_os = "linux")]
fn descriptors_below(path: &Path) -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|target| target.starts_with(path))
        .count()
}

fn health_of(manager: &LeaseManager) -> DatabaseHealth {
    match manager.health(soon()).unwrap() {
        StoreHealth::Workspace(health) => health,
        other @ StoreHealth::Server(_) => panic!("{other:?}"),
    }
}

#[test]
fn health_tells_how_the_database_is() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    let health = health_of(&a);
    assert_eq!(health.database, fixture.database());
    assert!(health.is_wal && !health.is_old_schema && health.log_bytes > 0);
    assert_eq!(health.database_bytes, fixture.database().metadata().unwrap().len());
    assert_eq!(health.clock, ClockSource::Boot);
    a.close();
    assert_eq!(a.health(soon()).unwrap_err().code(), "CLOSED");

    let old = Fixture::new();
    let schema =
        "CREATE TABLE phase_leases (lease_id TEXT PRIMARY KEY, task_id TEXT, phase TEXT, agent_id TEXT,
        acquired_at TEXT, expires_at TEXT, renewed_count INTEGER, UNIQUE (task_id, phase))";
    old.connection().execute_batch(schema).unwrap();
    assert!(health_of(&old.manager("a")).is_old_schema);
}

#[cfg(unix)]
#[test]
fn a_start_lock_is_private_and_a_link_in_its_place_is_not_followed() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let fixture = Fixture::new();
    let lock = fixture.path().join("state/.orchestrator.db.driftlock");
    fixture.manager("a");
    assert_eq!(lock.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let linked = Fixture::new();
    let target = linked.path().join("elsewhere");
    let lock = linked.path().join("state/.orchestrator.db.driftlock");
    fs::create_dir(linked.path().join("state")).unwrap();
    symlink(&target, &lock).unwrap();
    assert_eq!(linked.try_manager("a").err().unwrap().code(), "IO");
    assert!(!target.exists());
}

#[cfg(unix)]
#[test]
fn a_database_that_is_a_link_is_the_one_it_leads_to() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let a = fixture.manager("a");
    acquired(&a, "t");
    fs::create_dir(other.path().join("state")).unwrap();
    std::os::unix::fs::symlink(fixture.database(), other.database()).unwrap();
    let b = LeaseManager::open(other.path(), options("b"), fixture.clock.clone()).unwrap();
    assert!(is_refused(&b, "t"));
    assert!(health_of(&b).log_bytes > 0);
    assert!(!other.path().join("state/orchestrator.db-wal").exists());
}

#[test]
fn the_last_close_leaves_the_database_alone_in_its_folder() {
    let fixture = Fixture::new();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "t");
    is_refused(&b, "t");
    a.close();
    assert!(state_files(&fixture).contains(&"orchestrator.db-wal".to_owned()));
    b.close();
    assert_eq!(state_files(&fixture), [".orchestrator.db.driftlock", "orchestrator.db"]);
    #[cfg(target_os = "linux")]
    assert_eq!(descriptors_below(fixture.path()), 0);
    assert_eq!(fixture.query::<i64>("SELECT contention_events FROM phase_lease_meta"), 1);
}

#[test]
fn after_close_every_call_says_so() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    a.close();
    a.close();
    let (task, phase) = (t("t"), t("PLAN"));
    assert!(matches!(a.acquire(&task, &phase, soon()), Err(Error::Closed)));
    assert!(matches!(a.renew(&task, &phase, soon()), Err(Error::Closed)));
    assert!(matches!(a.release(&task, &phase, soon()), Err(Error::Closed)));
    assert!(matches!(a.release_all(soon()), Err(Error::Closed)));
    assert!(matches!(a.get(&task, &phase, soon()), Err(Error::Closed)));
    assert!(matches!(a.holds(&task, &phase, soon()), Err(Error::Closed)));
    assert!(matches!(a.stats(soon()), Err(Error::Closed)));
    assert!(holds(&fixture.manager("a"), "t"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_pair_is_parked_while_somebody_else_has_the_file_open() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    let other = fs::File::open(fixture.database()).unwrap();
    a.close();
    // Two of the database, one each of the log and its index, and the other one.
    let parked = descriptors_below(fixture.path());
    assert!(parked >= 4, "{parked}");
    let b = fixture.manager("b");
    assert!(is_refused(&b, "t"));
    // And that of the proof that this process is alive.
    assert_eq!(descriptors_below(fixture.path()), parked + 1);
    drop(other);
    b.close();
    assert_eq!(descriptors_below(fixture.path()), 0);

    // The same for the index of the log, which holds locks too.
    let b = fixture.manager("b");
    let other = fs::File::open(fixture.database().with_extension("db-shm")).unwrap();
    b.close();
    assert!(descriptors_below(fixture.path()) > 1);
    drop(other);
    fixture.manager("b").close();
    assert_eq!(descriptors_below(fixture.path()), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_parked_pair_of_a_removed_workspace_is_closed_once_it_can_be() {
    let fixture = Fixture::new();
    let path = fixture.path().to_owned();
    let a = fixture.manager("a");
    let other = fs::File::open(fixture.database()).unwrap();
    a.close();
    fs::remove_dir_all(&path).unwrap();
    Fixture::new().manager("elsewhere").close();
    assert!(descriptors_below(&path) > 1);
    drop(other);
    Fixture::new().manager("elsewhere").close();
    assert_eq!(descriptors_below(&path), 0);
    assert!(!path.exists());
}

#[test]
fn a_removed_database_is_not_written_to() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    fs::remove_dir_all(fixture.path().join("state")).unwrap();
    let error = a.acquire(&t("u"), &t("PLAN"), soon()).unwrap_err();
    assert!(error.to_string().contains("was removed; create a new PhaseLeaseManager"), "{error}");
    assert!(a.holds(&t("t"), &t("PLAN"), soon()).is_err());
    // A new manager makes a new database, and the old one finds it.
    let b = fixture.manager("b");
    acquired(&b, "t");
    assert!(!holds(&a, "t") && is_refused(&a, "t"));
    a.close();
    b.close();
    assert_eq!(state_files(&fixture), [".orchestrator.db.driftlock", "orchestrator.db"]);
}

#[test]
fn a_replaced_database_is_opened_anew_and_its_log_left_alone() {
    let (fixture, donor) = (Fixture::new(), Fixture::new());
    let a = fixture.manager("a");
    acquired(&a, "old");
    let b = donor.manager("b");
    acquired(&b, "new");
    b.close();
    for file in ["orchestrator.db-wal", "orchestrator.db-shm"] {
        fs::remove_file(fixture.path().join("state").join(file)).unwrap();
    }
    fs::rename(donor.database(), fixture.database()).unwrap();
    // Another program is the first to open the new file, and leaves its log.
    let other = fixture.connection();
    other
        .execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE other (x); INSERT INTO other VALUES (1)")
        .unwrap();
    assert!(is_refused(&a, "new"));
    assert!(!holds(&a, "old"));
    acquired(&a, "old");
    a.close();
    assert_eq!(
        other.query_row("SELECT count(*) FROM phase_leases", [], |row| row.get::<_, i64>(0)).unwrap(),
        2
    );
    assert_eq!(fixture.query::<i64>("SELECT x FROM other"), 1);
}

#[test]
fn closing_after_the_workspace_is_gone_makes_nothing() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    is_refused(&a, "t");
    fs::remove_dir_all(fixture.path()).unwrap();
    a.close();
    assert!(!fixture.path().exists());
}

#[test]
fn what_is_no_database_is_left_as_it_is() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path().join("state")).unwrap();
    let garbage = vec![b'x'; 10_000];
    fs::write(fixture.database(), &garbage).unwrap();
    let error = fixture.try_manager("a").err().unwrap();
    assert!(error.to_string().starts_with("file is not a database; it was left as it is"), "{error}");
    assert!(error.to_string().contains("orchestrator.db"), "{error}");
    assert_eq!(fs::read(fixture.database()).unwrap(), garbage);
    assert_eq!(state_files(&fixture), ["orchestrator.db"]);

    fs::remove_file(fixture.database()).unwrap();
    fs::create_dir(fixture.database()).unwrap();
    let error = fixture.try_manager("a").err().unwrap();
    assert_eq!(error.code(), "IO");
    assert!(error.to_string().contains("orchestrator.db"), "{error}");
}

#[test]
fn long_dead_leases_are_swept_and_others_are_not() {
    use crate::lease::sqlite_store::sweep_now;

    let fixture = Fixture::new();
    let a = fixture.manager("a");
    for task in 0..100 {
        acquired(&a, &format!("dead {task}"));
    }
    fixture.clock.advance(10 * SECOND + HOUR);
    acquired(&a, "live");
    sweep_now(&fixture.database(), &*fixture.clock);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 101);
    fixture.clock.advance(1);
    fixture.clock.step_wall(-2 * HOUR);
    sweep_now(&fixture.database(), &*fixture.clock);
    sweep_now(&fixture.database(), &*fixture.clock);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 1);
    // A reboot ends a lease; its owner has an hour from then.
    fixture.clock.reboot();
    fixture.clock.advance(HOUR);
    sweep_now(&fixture.database(), &*fixture.clock);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 1);
    fixture.clock.advance(1);
    sweep_now(&fixture.database(), &*fixture.clock);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 0);
}

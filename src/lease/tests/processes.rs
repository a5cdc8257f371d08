//! Several processes on one database. Each is this test binary, started with an order in its environment.

use std::process::{Child, Command, Stdio};

use super::*;
use crate::clock::SystemClock;

const ORDER: &str = "DRIFTLOCK_TEST_ORDER";
const WORKSPACE: &str = "DRIFTLOCK_TEST_WORKSPACE";

fn start(order: &str, workspace: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lease::tests::processes::child", "--nocapture"])
        .env(ORDER, order)
        .env(WORKSPACE, workspace)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// What a started process does; nothing in an ordinary run.
#[test]
fn child() {
    let (Ok(order), Some(workspace)) = (std::env::var(ORDER), std::env::var_os(WORKSPACE)) else { return };
    let workspace = Path::new(&workspace);
    let open = |options| LeaseManager::open(workspace, options, Arc::new(SystemClock)).unwrap();
    match order.as_str() {
        "open" => {
            wait_for(&workspace.join("go"));
            let agent = format!("agent {}", std::process::id());
            let manager = open(options(&agent));
            acquired(&manager, &agent);
            manager.close();
        }
        "count" => {
            let manager = open(options(&format!("agent {}", std::process::id())));
            wait_for(&workspace.join("go"));
            let number = workspace.join("number");
            let mut done = 0;
            while done < 50 {
                if is_refused(&manager, "t") {
                    std::thread::yield_now();
                    continue;
                }
                let before: u32 = std::fs::read_to_string(&number).unwrap().parse().unwrap();
                std::fs::write(&number, (before + 1).to_string()).unwrap();
                done += 1;
                assert!(release(&manager, "t"));
            }
        }
        "write" => {
            let connection = Connection::open(workspace.join("state/orchestrator.db")).unwrap();
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
            std::fs::write(workspace.join("writing"), "").unwrap();
            wait_for(&workspace.join("go"));
            connection.execute_batch("COMMIT").unwrap();
        }
        "probe" => {
            // Fails as "busy" while somebody else is attached, for it needs the database to itself.
            let connection = Connection::open(workspace.join("state/orchestrator.db")).unwrap();
            connection.busy_timeout(Duration::ZERO).unwrap();
            let mode =
                connection.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0));
            std::process::exit(i32::from(mode.is_ok_and(|mode| mode == "delete")));
        }
        other => panic!("unknown order {other}"),
    }
}

fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} did not come", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn succeed(children: Vec<Child>) {
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn first_openings_at_the_same_time_all_succeed() {
    for round in 0..3 {
        let fixture = Fixture::new();
        let children = (0..8).map(|_| start("open", fixture.path())).collect();
        std::thread::sleep(Duration::from_millis(100));
        std::fs::write(fixture.path().join("go"), "").unwrap();
        succeed(children);
        let leases: i64 = fixture.query("SELECT count(DISTINCT fencing_token) FROM phase_leases");
        assert_eq!(leases, 8, "round {round}");
    }
}

#[test]
fn the_holder_is_alone() {
    let fixture = Fixture::new();
    std::fs::write(fixture.path().join("number"), "0").unwrap();
    let children = (0..4).map(|_| start("count", fixture.path())).collect();
    std::thread::sleep(Duration::from_millis(100));
    std::fs::write(fixture.path().join("go"), "").unwrap();
    succeed(children);
    assert_eq!(std::fs::read_to_string(fixture.path().join("number")).unwrap(), "200");
}

#[test]
fn opening_a_ready_database_needs_no_write_lock() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    a.close();
    let writer = start("write", fixture.path());
    wait_for(&fixture.path().join("writing"));
    let begin = Instant::now();
    let a = fixture.manager("a");
    assert!(begin.elapsed() < Duration::from_secs(1));
    assert!(holds(&a, "t"));
    std::fs::write(fixture.path().join("go"), "").unwrap();
    succeed(vec![writer]);
}

/// The other copy of SQLite in the process opens and closes the files all the time.
#[test]
#[cfg(target_os = "linux")]
fn our_locks_survive_that_somebody_in_this_process_closes_the_files() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    for file in ["orchestrator.db", "orchestrator.db-shm"] {
        drop(std::fs::File::open(fixture.path().join("state").join(file)).unwrap());
    }
    let probe = || start("probe", fixture.path()).wait().unwrap().code();
    assert_eq!(probe(), Some(0), "another process took the database away from under us");
    assert!(holds(&a, "t"));
    a.close();
    assert_eq!(probe(), Some(1), "locks were left behind");
}

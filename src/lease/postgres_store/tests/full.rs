//! The server's disk is full.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use super::*;

/// A small disk of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    /// One of so many megabytes; `None`, and a word about it, where nothing can be mounted.
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m,mode=777"), "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        // Not by `eprintln`, which the test runner swallows.
        let _ = writeln!(
            std::io::stderr(),
            "NOT RUN: a full disk under PostgreSQL (nothing can be mounted here)"
        );
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no room in it.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.path().join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

/// Acquires leases with names that fill pages, until that fails; the error.
fn acquire_until_it_fails(manager: &LeaseManager, leases: &mut Vec<Lease>) -> crate::Error {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "the disk is not full");
        let task = t(&format!("{} {}", leases.len(), "x".repeat(1500)));
        match manager.acquire(&task, &t("PLAN"), Patience::lasting(Duration::from_secs(1))) {
            Ok(Acquisition::Acquired(lease)) => leases.push(lease),
            Ok(held @ Acquisition::Held { .. }) => panic!("{held:?}"),
            Err(error) => return error,
        }
    }
}

fn are_there(manager: &LeaseManager, leases: &[Lease]) {
    for lease in leases {
        assert_eq!(manager.get(&lease.task_id, &lease.phase, soon()).unwrap().as_ref(), Some(lease));
    }
}

#[test]
fn with_no_room_for_rows_calls_fail_until_there_is_some() {
    let Some(disk) = Disk::mount(4) else { return };
    let Some(server) = TestServer::start(&[]) else { return };
    let owner = server.data().metadata().unwrap();
    std::os::unix::fs::chown(disk.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    server.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", disk.path().display()));
    server.execute("ALTER DATABASE postgres SET default_tablespace = small");
    let place = Place::on(&server);
    let manager = place.manager("a");
    let mut leases = vec![acquired(&manager, "first")];
    for _ in 0..2 {
        disk.fill();
        let error = acquire_until_it_fails(&manager, &mut leases);
        assert_eq!(error.code(), "SERVER", "{error}");
        assert!(error.to_string().contains("free disk space"), "{error}");
        are_there(&manager, &leases);
        disk.make_room();
        leases.push(acquired(&manager, &format!("after {}", leases.len())));
        are_there(&manager, &leases);
    }
    assert!(leases.is_sorted_by(|one, next| one.fencing_token < next.fencing_token));
    assert_eq!(manager.release_all(soon()).unwrap(), leases.len() as u64);
}

/// The server refuses what it can't write to its log, or ends itself and doesn't start again before there is room.
#[test]
fn with_no_room_for_the_log_calls_fail_and_nothing_that_was_acknowledged_is_lost() {
    let Some(disk) = Disk::mount(36) else { return };
    let move_log = |data: &Path| {
        let moved = Command::new("mv").arg(data.join("pg_wal")).arg(disk.path()).status().unwrap();
        assert!(moved.success());
        std::os::unix::fs::symlink(disk.path().join("pg_wal"), data.join("pg_wal")).unwrap();
    };
    let Some(mut server) = TestServer::start_with(&[], move_log) else { return };
    let (schema, folder) = (TestServer::new_schema(), tempfile::tempdir().unwrap());
    let manager = open(&server.url(&schema), folder.path(), options("a")).unwrap();
    let mut leases = vec![acquired(&manager, "first")];
    disk.fill();
    // What is written next needs a new file of the log, sooner or later.
    for _ in 0..3 {
        let _ = server.try_execute("SELECT pg_switch_wal()");
        let error = acquire_until_it_fails(&manager, &mut leases);
        let step = match error.code() {
            "SERVER" => "free some space on the server",
            "SERVER_UNREACHABLE" => "look whether the server runs",
            other => panic!("{other}: {error}"),
        };
        assert!(error.to_string().contains(step), "{error}");
    }
    disk.make_room();
    server.run();
    are_there(&manager, &leases);
    let after = acquired(&manager, "after");
    assert!(leases.iter().all(|lease| lease.fencing_token < after.fencing_token));
}

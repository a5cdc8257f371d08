//! The server ends, can't be reached, or has no connection left; processes die.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use super::storm::storm;
use super::*;
use crate::error::Error;
use crate::lease::{EventKind, HoldRequest, HoldTerms, OwnedKey};
use crate::postgres::proxy::Proxy;

const URL: &str = "DRIFTLOCK_TEST_POSTGRES_URL";
const FOLDER: &str = "DRIFTLOCK_TEST_POSTGRES_FOLDER";

#[test]
fn a_killed_server_keeps_what_it_has_acknowledged_and_repeats_no_token() {
    let Some(mut server) = TestServer::start(&[]) else { return };
    let schema = TestServer::new_schema();
    let folder = tempfile::tempdir().unwrap();
    let url = server.url(&schema);
    let manager = open(&url, folder.path(), options("a")).unwrap();
    let mut last = 0;
    for round in 0..3 {
        let leases: Vec<Lease> = (0..50).map(|n| acquired(&manager, &format!("{round} {n}"))).collect();
        assert!(leases[0].fencing_token > last);
        last = leases[49].fencing_token;
        server.kill();
        let patience = Patience::lasting(Duration::from_millis(300));
        let error = manager.acquire(&t("while it is gone"), &t("PLAN"), patience).unwrap_err();
        assert_eq!(error.code(), "SERVER_UNREACHABLE", "{error}");
        // What this process holds needs no server.
        assert!(manager.holds(&t(&format!("{round} 0")), &t("PLAN"), Patience::Now).unwrap());
        server.run();
        for lease in leases {
            assert_eq!(manager.get(&lease.task_id, &lease.phase, soon()).unwrap(), Some(lease));
        }
    }
    assert!(acquired(&manager, "after").fencing_token > last);
}

#[test]
fn one_at_a_time_holds_a_lease_also_while_the_server_is_killed_in_mid_storm() {
    let Some(mut server) = TestServer::start(&[]) else { return };
    let (schema, folder) = (TestServer::new_schema(), tempfile::tempdir().unwrap());
    let url = server.url(&schema);
    storm(&url, folder.path(), |storm| {
        for _ in 0..3 {
            storm.last();
            server.kill();
            server.run();
        }
    });
    let manager = open(&url, folder.path(), options("afterwards")).unwrap();
    assert_eq!(manager.stats(soon()).unwrap().total_leases, 0);
}

#[test]
fn a_call_under_way_waits_for_a_server_that_comes_back() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let manager = place.manager_by(proxy.port, "a");
    acquired(&manager, "1");
    proxy.cut_off(true);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| acquired(&manager, "2"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        proxy.cut_off(false);
        waiting.join().unwrap();
    });
    assert!(release(&manager, "1") && release(&manager, "2"));
}

#[test]
fn failures_are_counted_once_the_server_is_back() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let manager = place.manager_by(proxy.port, "a");
    acquired(&manager, "t");
    proxy.cut_off(true);
    let impatient = || Patience::lasting(Duration::from_millis(20));
    for _ in 0..2 {
        assert!(manager.acquire(&t("u"), &t("PLAN"), impatient()).is_err());
    }
    assert!(manager.renew(&t("t"), &t("PLAN"), impatient()).is_err());
    proxy.cut_off(false);
    drop(manager);
    let b = place.manager("b");
    let counted = || {
        let totals = b.totals(soon()).unwrap();
        (totals.acquired, totals.acquire_errors, totals.renewal_errors)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while counted() != (1, 2, 1) {
        assert!(Instant::now() < deadline, "{:?}", counted());
    }
}

#[test]
fn what_this_process_holds_ends_for_it_no_later_than_for_the_server() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let options = LeaseOptions { lease_duration_ms: 700, ..options("a") };
    let a = place.manager_at(&url_at(proxy.port, &place.schema), options).unwrap();
    let b = place.manager("b");
    acquired(&a, "t");
    proxy.cut_off(true);
    assert!(a.holds(&t("t"), &t("PLAN"), Patience::Now).unwrap());
    loop {
        let taken = matches!(acquire(&b, "t"), Acquisition::Acquired(_));
        // Asked for after the answer: if b has it, a knows by now that it hasn't.
        if taken {
            break;
        }
    }
    assert!(!a.holds(&t("t"), &t("PLAN"), Patience::Now).unwrap());
}

/// Holds one lease; what is told when it is lost.
pub(super) fn hold(
    manager: &LeaseManager,
    task: &str,
    duration_ms: i64,
) -> (Arc<crate::lease::Hold>, Receiver<String>) {
    let (sender, loss) = channel();
    let request = HoldRequest {
        keys: vec![OwnedKey { task: t(task), phase: t("PLAN") }],
        wait_ms: 0,
        terms: HoldTerms { duration_ms, max_hold_ms: 600_000, progress_ms: None },
        instead_of: None,
        on_lost: Arc::new(move |_, error| drop(sender.send(error.to_string()))),
    };
    let (held, holding) = channel();
    let answer = Box::new(move |result: Result<Vec<Arc<crate::lease::Hold>>>| held.send(result).unwrap());
    manager.hold(request, soon(), &Arc::default(), answer);
    (holding.recv().unwrap().unwrap().remove(0), loss)
}

#[test]
fn a_held_lease_is_renewed_and_its_holder_told_of_its_loss_before_another_gets_it() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let (a, b) = (place.manager_by(proxy.port, "a"), place.manager("b"));
    let (held, loss) = hold(&a, "t", 600);
    // Whoever is on the right side goes on, in the same process.
    let (kept, no_loss) = hold(&b, "u", 600);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(matches!(acquire(&b, "t"), Acquisition::Held { .. }));
    }
    proxy.cut_off(true);
    while !matches!(acquire(&b, "t"), Acquisition::Acquired(_)) {}
    let cause = loss.try_recv().expect("told before");
    assert!(cause.contains("could not be renewed in time"), "{cause}");
    assert_eq!(held.remaining_ms(), 0);
    assert!(no_loss.try_recv().is_err() && kept.remaining_ms() > 0);
    assert!(kept.release(soon()).unwrap());
}

#[test]
fn a_holder_is_told_that_an_operator_has_released_its_lease() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, b) = (place.manager("a"), place.manager("b"));
    let (_held, loss) = hold(&a, "t", 60_000);
    let (task, phase) = (t("t"), t("PLAN"));
    let key = crate::lease::LeaseKey { task: &task, phase: &phase };
    b.force_release(key, &t("operator"), &t("stuck"), soon()).unwrap().unwrap();
    let cause = loss.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(cause.contains("somebody else has released it"), "{cause}");
}

#[test]
fn long_leases_are_looked_at_less_often() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let manager = place.manager("a");
    for (duration_ms, look_ms) in [(300_000, 5000), (30_000, 1000)] {
        let before = clock().boot_ms();
        let (held, _loss) = hold(&manager, &duration_ms.to_string(), duration_ms);
        let after = clock().boot_ms();
        assert!((before + look_ms..=after + look_ms).contains(&held.next_look()));
    }
}

#[test]
fn what_must_not_block_does_not_ask_the_server() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let manager = place.manager("a");
    let (task, phase) = (t("t"), t("PLAN"));
    assert!(matches!(manager.acquire(&task, &phase, Patience::Now), Err(Error::DatabaseLocked)));
    assert!(matches!(manager.release(&task, &phase, Patience::Now), Err(Error::DatabaseLocked)));
    assert!(matches!(manager.list(Patience::Now), Err(Error::DatabaseLocked)));
    let error = manager.get(&task, &phase, Patience::Now).unwrap_err();
    assert_eq!(error.code(), "WOULD_BLOCK");
    assert!(!manager.holds(&task, &phase, Patience::Now).unwrap());
    manager.close();
    assert!(matches!(manager.acquire(&task, &phase, soon()), Err(Error::Closed)));
}

#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    let Some(server) = TestServer::start(&["max_connections = 5", "superuser_reserved_connections = 0"])
    else {
        return;
    };
    let place = Place::on(&server);
    place.manager("a");
    let pools: Vec<LeaseManager> = (0..3)
        .map(|n| {
            let url = format!("{}&application_name=pool{n}", server.url(&place.schema));
            place.manager_at(&url, options(&n.to_string())).unwrap()
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, manager) in pools.iter().enumerate() {
            for thread in 0..4 {
                scope.spawn(move || {
                    for round in 0..10 {
                        let task = format!("{n} {thread} {round}");
                        acquired(manager, &task);
                        assert!(release(manager, &task));
                    }
                });
            }
        }
    });
}

#[test]
fn a_dead_process_s_lease_is_taken_over_at_once_on_its_machine_and_at_its_end_on_others() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let url = server.url(&place.schema);
    let taking = LeaseOptions { takes_from_the_dead: true, ..options("b") };
    let b = place.manager_at(&url, taking).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lease::postgres_store::tests::faults::child", "--nocapture"])
        .env(URL, &url)
        .env(FOLDER, place.folder())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !place.folder().join("acquired").exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(matches!(acquire(&b, "1"), Acquisition::Held { .. }));
    child.kill().unwrap();
    child.wait().unwrap();
    acquired(&b, "1");
    let event = b.events_after(0, soon()).unwrap().pop().unwrap();
    assert_eq!((event.kind, event.agent_id), (EventKind::TakeOver, t("child")));
    assert_eq!(b.totals(soon()).unwrap().takeovers_dead_holder, 1);
    // One that doesn't take from the dead waits for the end of the lease.
    assert!(matches!(acquire(&place.manager("c"), "2"), Acquisition::Held { .. }));
    // As another machine would see it: its boots have other ids.
    place.server.execute(&format!("UPDATE {}.leases SET boot_id = 'another'", quoted(&place.schema)));
    assert!(matches!(acquire(&b, "2"), Acquisition::Held { .. }));
}

/// The process that dies; nothing in an ordinary run.
#[test]
fn child() {
    let (Ok(url), Some(folder)) = (std::env::var(URL), std::env::var_os(FOLDER)) else { return };
    let folder = Path::new(&folder);
    let manager = open(&url, folder, options("child")).unwrap();
    acquired(&manager, "1");
    acquired(&manager, "2");
    std::fs::write(folder.join("acquired"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

//! A fence is checked in the transaction of what it guards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use super::*;
use crate::error::Error;
use crate::gate::Guard;
use crate::lease::{Acquisition, Fence, Lease, OwnedKey};
use crate::ledger::entry::StoredEntry;
use crate::postgres::proxy::{Loss, Proxy};
use crate::postgres::{Address, Pool};

fn acquired(manager: &LeaseManager, task: &str) -> Lease {
    match manager.acquire(&t(task), &t("VERIFY"), soon()).unwrap() {
        Acquisition::Acquired(lease) => lease,
        held @ Acquisition::Held { .. } => panic!("{held:?}"),
    }
}

fn fence(lease: &Lease) -> Fence {
    let key = OwnedKey { task: lease.task_id.clone(), phase: lease.phase.clone() };
    Fence { key, token: lease.fencing_token, lease_id: lease.lease_id.clone() }
}

#[test]
fn only_the_newest_lease_s_fence_lets_records_pass() {
    let Some(server) = TestServer::shared() else { return };
    let (place, folder) = (Place::on(server), tempfile::tempdir().unwrap());
    let (ledger, attestations) = (ledger(&place.url()), attestations(&place.url()));
    let manager = place.leases("a", folder.path());
    let append = |fence: &Fence| {
        let steps = [&step("t", "VERIFY")];
        ledger.append_through(Guard::Fence(fence), &steps, Durability::Process, soon())
    };
    let attest = |fence: &Fence| {
        let prompts = [&prompt("t", "1")];
        attestations.attest_through(Guard::Fence(fence), &prompts, Durability::Process, soon())
    };
    let first = fence(&acquired(&manager, "t"));
    append(&first).unwrap();
    attest(&first).unwrap();
    manager.release(&t("t"), &t("VERIFY"), soon()).unwrap();
    let refusals = |fence: &Fence| [append(fence).unwrap_err(), attest(fence).unwrap_err()];
    for error in refusals(&first) {
        assert!(matches!(&error, Error::Fenced { newer, .. } if newer == "it was released"), "{error}");
    }
    let second = fence(&acquired(&manager, "t"));
    for error in refusals(&first) {
        assert!(
            matches!(&error, Error::Fenced { newer, .. } if newer.starts_with("a has it now")),
            "{error}"
        );
    }
    append(&second).unwrap();
    attest(&second).unwrap();
    assert_eq!(ledger.stats(soon()).unwrap().total_entries, 2);
    assert_eq!(attestations.stats(soon()).unwrap().total_attestations, 2);
}

/// Has the lease of a fence released by whatever inserts a row, in the same transaction.
fn release_with(place: &Place<'_>, table: &str) {
    let schema = quoted(&place.schema);
    place.server.execute(&format!(
        "CREATE OR REPLACE FUNCTION {schema}.release_it() RETURNS trigger LANGUAGE plpgsql AS
           'BEGIN DELETE FROM {}.leases; RETURN NULL; END'",
        schema.replace('\'', "''")
    ));
    place.server.execute(&format!(
        "CREATE CONSTRAINT TRIGGER release_it AFTER INSERT ON {schema}.{table} DEFERRABLE INITIALLY DEFERRED
           FOR EACH ROW EXECUTE FUNCTION {schema}.release_it()"
    ));
}

#[test]
fn what_was_done_under_a_fence_is_still_answered_once_the_lease_is_gone() {
    let Some(server) = TestServer::shared() else { return };
    let (place, folder, proxy) = (Place::on(server), tempfile::tempdir().unwrap(), Proxy::of(server.port));
    let (ledger, attestations) = (ledger(&place.url_by(proxy.port)), attestations(&place.url_by(proxy.port)));
    ledger.initialize(Durability::Process, soon()).unwrap();
    attestations.initialize(Durability::Process, soon()).unwrap();
    let manager = place.leases("a", folder.path());

    release_with(&place, "entries");
    let held = fence(&acquired(&manager, "t"));
    let append =
        || ledger.append_through(Guard::Fence(&held), &[&step("t", "VERIFY")], Durability::Process, soon());
    proxy.lose(Loss::Reply);
    assert_eq!(append().unwrap().len(), 1);
    assert!(matches!(append(), Err(Error::Fenced { .. })));

    release_with(&place, "attestations");
    let held = fence(&acquired(&manager, "t"));
    let attest = || {
        attestations.attest_through(Guard::Fence(&held), &[&prompt("t", "1")], Durability::Process, soon())
    };
    proxy.lose(Loss::Reply);
    assert!(attest().unwrap()[0].baseline_hash.is_none());
    assert!(matches!(attest(), Err(Error::Fenced { .. })));
    assert_eq!(proxy.losses(), 2);
}

#[test]
fn a_fenced_append_that_waits_is_not_overtaken() {
    let Some(server) = TestServer::shared() else { return };
    let (place, folder) = (Place::on(server), tempfile::tempdir().unwrap());
    let ledger = ledger(&place.url());
    ledger.initialize(Durability::Process, soon()).unwrap();
    let manager = place.leases("a", folder.path());
    let held = fence(&acquired(&manager, "t"));
    // Somebody is appending, and takes long.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut other = Pool::new(Address::parse(&place.url()).unwrap()).connect(deadline).unwrap();
    let schema = quoted(&place.schema);
    let lock = format!("BEGIN; SELECT pg_advisory_xact_lock('{schema}.entries'::regclass::oid::int, 1)");
    other.batch(&lock, deadline).unwrap();
    let step = step("t", "VERIFY");
    let steps = [&step];
    std::thread::scope(|scope| {
        let appending =
            scope.spawn(|| ledger.append_through(Guard::Fence(&held), &steps, Durability::Process, soon()));
        let waiting = "SELECT count(*) FROM pg_locks WHERE classid = '@.entries'::regclass AND NOT granted";
        while place.number(waiting) == 0 {
            assert!(Instant::now() < deadline);
        }
        let releasing = scope.spawn(|| manager.release(&t("t"), &t("VERIFY"), soon()));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!appending.is_finished() && !releasing.is_finished());
        other.batch("ROLLBACK", deadline).unwrap();
        assert_eq!(appending.join().unwrap().unwrap().len(), 1);
        assert!(releasing.join().unwrap().unwrap());
    });
}

#[test]
fn no_entry_comes_after_those_of_a_newer_lease() {
    const TAKE_OVERS: usize = 15;
    let Some(server) = TestServer::shared() else { return };
    let (place, folder) = (Place::on(server), tempfile::tempdir().unwrap());
    let manager = place.leases("a", folder.path());
    let newest = Mutex::new(fence(&acquired(&manager, "t")));
    let is_over = AtomicBool::new(false);
    let refused = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for n in 0..3 {
            let ledger = ledger(&another(&place.url(), &n.to_string()));
            let (newest, is_over, refused) = (&newest, &is_over, &refused);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let fence = newest.lock().unwrap().clone();
                    let step = step("t", &fence.token.to_string());
                    match ledger.append_through(Guard::Fence(&fence), &[&step], Durability::Process, soon()) {
                        Ok(lines) => assert_eq!(lines.len(), 1),
                        Err(Error::Fenced { .. }) => drop(refused.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        for _ in 0..TAKE_OVERS {
            std::thread::sleep(Duration::from_millis(20));
            assert!(manager.release(&t("t"), &t("VERIFY"), soon()).unwrap());
            let lease = acquired(&manager, "t");
            // For a while those who write don't know of it.
            std::thread::sleep(Duration::from_millis(20));
            *newest.lock().unwrap() = fence(&lease);
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let ledger = ledger(&place.url());
    let tokens: Vec<i64> = ledger
        .history(&t("t"), soon())
        .unwrap()
        .iter()
        .map(|line| StoredEntry::from_line(line).unwrap().to_phase().unwrap().to_string().parse().unwrap())
        .collect();
    assert!(tokens.is_sorted(), "{tokens:?}");
    assert!(ledger.verify(soon()).unwrap().is_valid());
    assert!(refused.into_inner() > 0 && tokens.first() < tokens.last());
}

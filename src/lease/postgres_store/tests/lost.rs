//! The connection is cut before the server has the request, or after it has committed: each call is done once.

use std::sync::mpsc::channel;

use super::*;
use crate::lease::{Claim, Claimed, LeaseKey, OwnedKey, Renewal};
use crate::postgres::proxy::{Loss, Proxy};

/// Runs a test for each kind of loss.
fn for_each_loss(test: impl Fn(&Place<'_>, &LeaseManager, &dyn Fn())) {
    let Some(server) = TestServer::shared() else { return };
    for loss in [Loss::Request, Loss::Reply] {
        let (place, proxy) = (Place::on(server), Proxy::of(server.port));
        let manager = place.manager_by(proxy.port, "a");
        let losses = std::cell::Cell::new(0);
        test(&place, &manager, &|| {
            proxy.lose(loss);
            losses.set(losses.get() + 1);
        });
        // The thread that stores counts may have lost something in the place of a call, and take its time.
        let end = Instant::now() + Duration::from_secs(8);
        while proxy.losses() < losses.get() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(proxy.losses(), losses.get(), "{loss:?}");
    }
}

fn key(task: &str) -> OwnedKey {
    OwnedKey { task: t(task), phase: t("PLAN") }
}

#[test]
fn an_acquisition_is_granted_once() {
    for_each_loss(|place, manager, lose| {
        lose();
        let lease = acquired(manager, "t");
        assert_eq!(manager.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(lease));
        assert_eq!(place.number("SELECT last_value FROM @.tokens"), 1);
        assert_eq!(manager.stats(soon()).unwrap().contention_events, 0);
        lose();
        assert!(matches!(acquire(manager, "t"), Acquisition::Held { .. }));
        let totals = manager.totals(soon()).unwrap();
        assert_eq!((totals.acquired, totals.contended, totals.acquire_errors), (1, 1, 0));
    });
}

#[test]
fn a_renewal_counts_once() {
    for_each_loss(|_, manager, lose| {
        acquired(manager, "t");
        for renewals in 1..=10 {
            lose();
            let renewed = manager.renew(&t("t"), &t("PLAN"), soon()).unwrap();
            assert!(matches!(renewed, Renewal::Renewed { .. }));
            let lease = manager.get(&t("t"), &t("PLAN"), soon()).unwrap().unwrap();
            assert_eq!(lease.renewed_count, renewals);
        }
        lose();
        let renewed = manager.renew(&t("t"), &t("PLAN"), soon()).unwrap();
        assert_eq!(renewed, Renewal::MaxRenewalsExceeded);
        let totals = manager.totals(soon()).unwrap();
        assert_eq!((totals.renewed, totals.renewals_refused, totals.renewal_errors), (10, 1, 0));
    });
}

#[test]
fn a_release_says_that_it_was_one() {
    for_each_loss(|place, manager, lose| {
        acquired(manager, "t");
        lose();
        assert!(release(manager, "t"));
        lose();
        assert!(!release(manager, "t"));
        for task in ["1", "2", "3"] {
            acquired(manager, task);
        }
        lose();
        assert_eq!(manager.release_all(soon()).unwrap(), 3);
        lose();
        assert_eq!(manager.release_all(soon()).unwrap(), 0);
        assert_eq!(place.number("SELECT sum(finished_holds)::bigint FROM @.sessions"), 4);
    });
}

#[test]
fn a_release_whose_answer_is_lost_ends_nobody_else_s_lease() {
    let Some(server) = TestServer::shared() else { return };
    let (place, proxy) = (Place::on(server), Proxy::of(server.port));
    let (a, b) = (place.manager_by(proxy.port, "a"), place.manager("b"));
    acquired(&a, "t");
    // Whoever waits has it at once.
    let claim = Claim { keys: vec![key("t")], queue_ms: 60_000, ..b.new_claim(Vec::new()) };
    let (sender, receiver) = channel();
    let Claimed::Refused { ticket: Some(ticket), .. } =
        b.store().claim(&claim, b.wait(soon()).unwrap()).unwrap()
    else {
        panic!("not queued");
    };
    b.store().await_turn(ticket, claim, Box::new(move |answer| sender.send(answer).unwrap()));
    proxy.lose(Loss::Reply);
    assert!(release(&a, "t"));
    let granted = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(granted.leases[0].clone()));
}

#[test]
fn an_exchange_is_made_once() {
    for_each_loss(|place, manager, lose| {
        acquired(manager, "1");
        lose();
        let advanced = manager.advance(key("1"), key("2"), soon()).unwrap();
        assert!(matches!(advanced, Some(Acquisition::Acquired(_))), "{advanced:?}");
        assert_eq!(manager.stats(soon()).unwrap().total_leases, 1);
        assert_eq!(place.number("SELECT sum(finished_holds)::bigint FROM @.sessions"), 1);

        // For what the agent has already.
        let options = LeaseOptions { is_reentrant: true, ..options("a") };
        let url = place.server.url(&place.schema);
        acquired(&place.manager_at(&url, options).unwrap(), "3");
        let mut claim = manager.new_claim(vec![key("3")]);
        claim.is_reentrant = true;
        claim.instead_of = Some((key("2"), None));
        lose();
        let claimed = manager.store().claim(&claim, manager.wait(soon()).unwrap()).unwrap();
        assert!(matches!(claimed, Claimed::Granted(_)), "{claimed:?}");
    });
}

#[test]
fn a_claim_has_one_place_in_the_queue() {
    for_each_loss(|place, manager, lose| {
        acquired(manager, "t");
        let claim = Claim { holder: t("b"), queue_ms: 60_000, ..manager.new_claim(vec![key("t"), key("u")]) };
        lose();
        let claimed = manager.store().claim(&claim, manager.wait(soon()).unwrap()).unwrap();
        assert!(matches!(claimed, Claimed::Refused { ticket: Some(_), .. }));
        assert_eq!(place.number("SELECT count(*) FROM @.waiters"), 2);
    });
}

#[test]
fn a_forced_release_is_recorded_once_and_says_what_it_ended() {
    for_each_loss(|_, manager, lose| {
        let lease = acquired(manager, "t");
        let (task, phase) = (t("t"), t("PLAN"));
        let force = || {
            let key = LeaseKey { task: &task, phase: &phase };
            manager.force_release(key, &t("operator"), &t("stuck"), soon()).unwrap()
        };
        lose();
        assert_eq!(force(), Some(lease));
        lose();
        assert_eq!(force(), None);
        assert_eq!(manager.events_after(0, soon()).unwrap().len(), 1);
    });
}

#[test]
fn what_is_fenced_is_done_once() {
    for_each_loss(|_, manager, lose| {
        let lease = acquired(manager, "t");
        let fence =
            crate::lease::Fence { key: key("t"), token: lease.fencing_token, lease_id: lease.lease_id };
        let mut times = 0;
        lose();
        let mut work = || {
            times += 1;
            Ok(())
        };
        manager.fenced(&fence, &mut work, soon()).unwrap();
        // The connection is lost after the check.
        let mut losing = || {
            lose();
            times += 1;
            Ok(())
        };
        manager.fenced(&fence, &mut losing, soon()).unwrap();
        assert_eq!(times, 2);
    });
}

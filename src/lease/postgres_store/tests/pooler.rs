//! PgBouncer in transaction mode, which changes the server's connections between transactions.

use super::*;
use crate::error::Error;
use crate::lease::{Claim, Claimed};
use crate::postgres::pooler::Pooler;
use crate::postgres::testing::url_at;

#[test]
fn leases_work_through_a_pooler_that_changes_connections() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let Some(pooler) = Pooler::before(server) else { return };
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (place, pooler) = (&place, &pooler);
            scope.spawn(move || {
                let manager = place.manager_by(pooler.port, &n.to_string());
                for round in 0..20 {
                    let task = format!("{n} {round}");
                    acquired(&manager, &task);
                    manager.renew(&t(&task), &t("PLAN"), soon()).unwrap();
                    let _ = acquire(&manager, "all");
                    let _ = manager.release(&t("all"), &t("PLAN"), soon()).unwrap();
                    assert!(release(&manager, &task));
                }
            });
        }
    });
    let manager = place.manager_by(pooler.port, "a");
    assert_eq!(manager.stats(soon()).unwrap().total_leases, 0);
    // Nothing was prepared by name, or the server's connections would be confused by now.
    assert_eq!(place.number("SELECT count(*) FROM pg_prepared_statements"), 0);
}

/// Whether the server's notifications come to this process, by this way.
fn is_notified(url: &str, place: &Place<'_>) -> bool {
    let store = place.store_at(url).unwrap();
    store.server.room.is_notified.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn those_who_wait_behind_a_pooler_are_served_without_notifications() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let Some(pooler) = Pooler::before(server) else { return };
    let (a, b) = (place.manager("a"), place.manager_by(pooler.port, "b"));
    acquired(&a, "t");
    let claim = Claim {
        queue_ms: 60_000,
        ..b.new_claim(vec![crate::lease::OwnedKey { task: t("t"), phase: t("PLAN") }])
    };
    let Ok(Claimed::Refused { ticket: Some(ticket), .. }) = b.store().claim(&claim, b.wait(soon()).unwrap())
    else {
        panic!("not queued");
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    b.store().await_turn(ticket, claim, Box::new(move |answer| sender.send(answer).unwrap()));
    // Longer than it is tried whether notifications come.
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!is_notified(&url_at(pooler.port, &place.schema), &place));
    assert!(receiver.try_recv().is_err());
    assert!(release(&a, "t"));
    // Without a pooler they do.
    acquired(&a, "u");
    let waiting = Claim {
        queue_ms: 60_000,
        ..a.new_claim(vec![crate::lease::OwnedKey { task: t("u"), phase: t("PLAN") }])
    };
    let Ok(Claimed::Refused { ticket: Some(ticket), .. }) =
        a.store().claim(&waiting, a.wait(soon()).unwrap())
    else {
        panic!("not queued");
    };
    a.store().await_turn(ticket, waiting, Box::new(drop));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_notified(&place.server.url(&place.schema), &place) {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer: Result<_, Error> = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(answer.unwrap().leases[0].agent_id, t("b"));
}

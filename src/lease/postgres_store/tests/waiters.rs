//! Those who wait are counted.

use super::*;
use crate::lease::{Claim, Claimed, OwnedKey};

#[test]
fn each_claim_that_waits_is_one_waiter_whatever_it_waits_for() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, b) = (place.manager("a"), place.manager("b"));
    let key = |task: &str| OwnedKey { task: t(task), phase: t("PLAN") };
    acquired(&a, "1");
    acquired(&a, "2");
    for keys in [vec![key("1")], vec![key("1"), key("2")]] {
        let claim = Claim { queue_ms: 60_000, ..b.new_claim(keys) };
        let claimed = b.store().claim(&claim, b.wait(soon()).unwrap()).unwrap();
        assert!(matches!(claimed, Claimed::Refused { ticket: Some(_), .. }));
    }
    assert_eq!(a.totals(soon()).unwrap().waiters, 2);
    let waiters: Vec<u64> = a.list(soon()).unwrap().iter().map(|lease| lease.waiters).collect();
    assert_eq!(waiters, [2, 1]);
    // Whoever has stopped waiting long ago is not counted, though his row is still there.
    server
        .execute(&format!("UPDATE {}.waiters SET until_at = now() - interval '1 s'", quoted(&place.schema)));
    assert_eq!(a.totals(soon()).unwrap().waiters, 0);
}

#[test]
fn a_hand_over_writes_no_rows_of_those_who_go_on_waiting() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, b) = (place.manager("a"), place.manager("b"));
    acquired(&a, "t");
    let key = OwnedKey { task: t("t"), phase: t("PLAN") };
    let claim = Claim { queue_ms: 60_000, ..b.new_claim(vec![key]) };
    for _ in 0..5 {
        b.store().claim(&claim, b.wait(soon()).unwrap()).unwrap();
    }
    // Each version of a row has the number of the transaction that wrote it.
    let versions = || place.number("SELECT sum(xmin::text::bigint)::bigint FROM @.waiters");
    let before = versions();
    assert!(release(&a, "t"));
    assert_eq!(versions(), before);
    assert_eq!(place.number("SELECT count(*) FROM @.vacancies"), 1);
}

#[test]
fn what_is_long_over_is_swept_once_in_a_while_however_many_ask() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let manager = place.manager("a");
    let end_all = || {
        acquired(&manager, "t");
        let leases = format!("{}.leases", quoted(&place.schema));
        server.execute(&format!("UPDATE {leases} SET expires_at = now() - interval '2 hours'"));
    };
    end_all();
    assert_eq!(place.number("SELECT @.sweep_1()"), 1);
    end_all();
    assert_eq!(place.number("SELECT @.sweep_1()"), 0);
    let figures = format!("{}.figures", quoted(&place.schema));
    server.execute(&format!("UPDATE {figures} SET counted_at = counted_at - interval '6 minutes'"));
    assert_eq!(place.number("SELECT @.sweep_1()"), 1);
    assert_eq!(place.number("SELECT count(*) FROM @.leases"), 0);
}

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

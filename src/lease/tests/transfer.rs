//! Leases that another store has granted.

use super::*;
use crate::lease::ListedLease;

on_each_store![leases_of_another_store_are_as_they_were_there, no_token_up_to_another_store_s_is_given,];

fn leases_of_another_store_are_as_they_were_there(new_fixture: NewFixture) {
    let (there, here) = (new_fixture(), new_fixture());
    let (a, b) = (there.manager("a"), here.manager("b"));
    acquired(&a, "t");
    there.advance(2 * SECOND);
    a.renew(&t("t"), &t("PLAN"), soon()).unwrap();
    there.advance(3 * SECOND);
    let own = acquired(&b, "own");
    let listed = a.list(soon()).unwrap();
    let of_other_key =
        ListedLease { lease: Lease { task_id: t("own"), ..listed[0].lease.clone() }, ..listed[0].clone() };
    let both = [listed[0].clone(), of_other_key];
    for _ in 0..2 {
        b.store().take_in(&both, 1, b.wait(soon()).unwrap()).unwrap();
    }
    let taken = here
        .manager("a")
        .list(soon())
        .unwrap()
        .into_iter()
        .find(|lease| lease.lease.task_id == t("t"))
        .unwrap();
    assert_eq!((taken.lease.lease_id, taken.lease.agent_id), (listed[0].lease.lease_id.clone(), t("a")));
    assert_eq!((taken.lease.renewed_count, taken.lease.fencing_token), (1, listed[0].lease.fencing_token));
    assert_eq!((taken.held_ms, taken.remaining_ms), (5 * SECOND, 7 * SECOND));
    // One that is there stays.
    assert_eq!(b.get(&t("own"), &t("PLAN"), soon()).unwrap(), Some(own));
    assert!(is_refused(&b, "t"));
    here.advance(7 * SECOND);
    acquired(&b, "t");
}

fn no_token_up_to_another_store_s_is_given(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let a = fixture.manager("a");
    let highest =
        |manager: &LeaseManager| manager.store().highest_token(manager.wait(soon()).unwrap()).unwrap();
    assert_eq!(highest(&a), 0);
    // So many that some are set aside.
    let tokens: Vec<i64> = (0..20).map(|task| acquired(&a, &task.to_string()).fencing_token).collect();
    assert!(highest(&a) >= tokens[19]);
    a.store().take_in(&[], 5_000_000, a.wait(soon()).unwrap()).unwrap();
    assert!(highest(&a) >= 5_000_000);
    assert!(acquired(&a, "a").fencing_token > 5_000_000);
    let b = fixture.manager("b");
    let token = acquired(&b, "b").fencing_token;
    // It never goes back.
    b.store().take_in(&[], 7, b.wait(soon()).unwrap()).unwrap();
    assert!(acquired(&b, "c").fencing_token > token);
}

//! What is counted for those who watch the leases, over all processes.

use super::*;
use crate::error::Error;
use crate::lease::{LeaseKey, LeaseTotals, totals_of};

fn observed(fixture: &Fixture) -> Option<LeaseTotals> {
    totals_of(fixture.path(), &*fixture.clock, soon()).unwrap()
}

fn renew(manager: &LeaseManager, task: &str) {
    manager.renew(&t(task), &t("PLAN"), soon()).unwrap();
}

on_each_store! {
    every_answer_is_counted_once,
}

fn every_answer_is_counted_once(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "one");
    acquired(&a, "two");
    assert!(is_refused(&b, "one") && is_refused(&a, "one"));
    (0..4).for_each(|_| renew(&a, "one"));
    renew(&b, "one");
    fixture.advance(3 * SECOND);
    assert!(release(&a, "one") && !release(&a, "one"));
    fixture.advance(8 * SECOND);
    acquired(&b, "two");
    let key = LeaseKey { task: &t("two"), phase: &t("PLAN") };
    b.force_release(key, &t("operator"), &t("stuck"), soon()).unwrap();
    acquired(&a, "two");
    acquired(&a, "three");
    fixture.advance(SECOND);
    acquired(&a, "four");
    fixture.advance(9 * SECOND);
    let expected = LeaseTotals {
        acquired: 6,
        contended: 2,
        renewed: 3,
        renewals_refused: 2,
        takeovers_expired: 1,
        forced_releases: 1,
        finished_holds: 3,
        finished_hold_ms: 13_000,
        active: 1,
        expired: 2,
        oldest_age_ms: 9_000,
        ..LeaseTotals::default()
    };
    // By whoever asks, also when those who counted are closed.
    assert_eq!(a.totals(soon()).unwrap(), expected);
    drop((a, b));
    assert_eq!(fixture.manager("c").totals(soon()).unwrap(), expected);
}

#[test]
fn totals_are_seen_without_a_manager() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    renew(&a, "t");
    let seen = || observed(&fixture).map(|totals| (totals.acquired, totals.renewed, totals.active));
    assert_eq!(seen(), Some((1, 1, 1)));
    drop(a);
    assert_eq!(seen(), Some((1, 1, 1)));
    assert_eq!(fixture.query::<i64>("SELECT renewed FROM phase_lease_meta"), 1);
}

#[test]
fn failures_are_counted_once_they_can_be() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    let other = fixture.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let impatient = || Patience::lasting(Duration::from_millis(1));
    for _ in 0..2 {
        assert!(matches!(a.acquire(&t("u"), &t("PLAN"), impatient()), Err(Error::DatabaseLocked)));
    }
    assert!(a.renew(&t("t"), &t("PLAN"), impatient()).is_err());
    // Whoever can't wait asks again, and is counted then.
    assert!(a.acquire(&t("u"), &t("PLAN"), Patience::Now).is_err());
    other.execute_batch("ROLLBACK").unwrap();
    drop(a);
    let totals = observed(&fixture).unwrap();
    assert_eq!((totals.acquired, totals.acquire_errors, totals.renewal_errors), (1, 2, 1));
}

#[test]
fn what_is_counted_survives_a_close_in_the_midst_of_other_writers() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    assert!(is_refused(&a, "t"));
    let other = fixture.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let writing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(5));
        other.execute_batch("ROLLBACK").unwrap();
    });
    drop(a);
    writing.join().unwrap();
    assert_eq!(fixture.query::<i64>("SELECT contention_events FROM phase_lease_meta"), 1);
}

#[test]
fn whoever_watches_makes_nothing() {
    let fixture = Fixture::new();
    assert_eq!(observed(&fixture), None);
    assert_eq!(std::fs::read_dir(fixture.path()).unwrap().count(), 0);
    // A database of old code, and one that has nothing to do with leases yet.
    fixture.connection().execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE other (x)").unwrap();
    assert_eq!(observed(&fixture), None);
    fixture.connection().execute_batch(legacy::OLD_SCHEMA).unwrap();
    let before: i64 = fixture.query("PRAGMA schema_version");
    assert_eq!(observed(&fixture), None);
    assert_eq!(fixture.query::<i64>("PRAGMA schema_version"), before);
    let names: Vec<_> = std::fs::read_dir(fixture.path().join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["orchestrator.db"]);
    fixture.manager("a");
    assert_eq!(observed(&fixture), Some(LeaseTotals::default()));
}

#[test]
fn an_earlier_version_of_this_package_works_beside_this_one() {
    let fixture = Fixture::new();
    acquired(&fixture.manager("a"), "t");
    let earlier = fixture.connection();
    for name in [
        "acquired",
        "acquire_errors",
        "renewed",
        "renewals_refused",
        "renewal_errors",
        "takeovers_expired",
        "takeovers_dead_holder",
        "forced_releases",
    ] {
        earlier.execute_batch(&format!("ALTER TABLE phase_lease_meta DROP COLUMN {name}")).unwrap();
    }
    let count = "UPDATE phase_lease_meta SET next_token = next_token + 1,
                 contention_events = contention_events + 1 WHERE id = 1";
    let mut counting = earlier.prepare(count).unwrap();
    counting.execute([]).unwrap();
    assert_eq!(observed(&fixture), None);
    let a = fixture.manager("a");
    acquired(&a, "u");
    counting.execute([]).unwrap();
    assert!(is_refused(&a, "u"));
    let totals = a.totals(soon()).unwrap();
    assert_eq!((totals.acquired, totals.contended), (1, 3));
}

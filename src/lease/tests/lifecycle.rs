//! What happens to a lease from its acquisition to its end.

use super::*;
use crate::clock::{Clock, iso_timestamp};
use crate::error::Error;
use crate::lease::{LeaseStats, Renewal};

on_each_store! {
    a_lease_keeps_others_out_until_it_is_released,
    an_expired_lease_is_its_owner_s_until_somebody_acquires_it,
    a_renewal_gives_the_full_duration_as_often_as_allowed,
    release_all_ends_what_the_agent_holds_and_nothing_else,
    two_managers_with_one_id_are_one_holder,
    setting_the_wall_clock_changes_nothing,
    statistics_count_over_all_managers,
}

fn renew(manager: &LeaseManager, task: &str) -> Renewal {
    manager.renew(&t(task), &t("PLAN"), soon()).unwrap()
}

fn a_lease_keeps_others_out_until_it_is_released(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let lease = acquired(&a, "t");
    assert_eq!(lease.acquired_at, iso_timestamp(START));
    assert_eq!(lease.expires_at, iso_timestamp(START + 10 * SECOND));
    assert_eq!((lease.renewed_count, lease.lease_id.len()), (0, 36));
    assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(lease));
    fixture.advance(1);
    let held = Acquisition::Held { holder: t("a"), remaining_ms: 10 * SECOND - 1 };
    assert_eq!(acquire(&b, "t"), held);
    assert_eq!(acquire(&a, "t"), held);
    assert!(holds(&a, "t") && !holds(&b, "t"));
    assert!(!release(&b, "t"));
    assert!(release(&a, "t") && !release(&a, "t"));
    assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), None);
    acquired(&b, "t");
}

fn an_expired_lease_is_its_owner_s_until_somebody_acquires_it(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let first = acquired(&a, "t");
    fixture.advance(10 * SECOND - 1);
    assert!(holds(&a, "t"));
    fixture.advance(1);
    assert!(!holds(&a, "t"));
    acquired(&b, "another task");
    assert!(matches!(renew(&a, "t"), Renewal::Renewed { .. }));
    assert!(holds(&a, "t") && is_refused(&b, "t"));
    fixture.advance(11 * SECOND);
    let second = acquired(&a, "t");
    assert_ne!(second.lease_id, first.lease_id);
    fixture.advance(11 * SECOND);
    let third = acquired(&b, "t");
    assert!(first.fencing_token < second.fencing_token && second.fencing_token < third.fencing_token);
    assert_eq!(renew(&a, "t"), Renewal::NotHeld);
    assert!(!release(&a, "t"));
    assert_eq!(b.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(third));
}

fn a_renewal_gives_the_full_duration_as_often_as_allowed(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let lease = acquired(&a, "t");
    for renewal in 1..=3 {
        fixture.advance(6 * SECOND);
        assert_eq!(renew(&b, "t"), Renewal::NotHeld);
        let expires_at_ms = fixture.clock.wall_ms() + 10 * SECOND;
        assert_eq!(renew(&a, "t"), Renewal::Renewed { expires_at_ms });
        let now = a.get(&t("t"), &t("PLAN"), soon()).unwrap().unwrap();
        assert_eq!(
            now,
            Lease { renewed_count: renewal, expires_at: iso_timestamp(expires_at_ms), ..lease.clone() }
        );
    }
    assert_eq!(renew(&a, "t"), Renewal::MaxRenewalsExceeded);
    assert_eq!(renew(&a, "unknown"), Renewal::NotHeld);

    let options = LeaseOptions { max_renewals: 0, ..options("c") };
    let never = fixture.open(options).unwrap();
    acquired(&never, "u");
    assert_eq!(renew(&never, "u"), Renewal::MaxRenewalsExceeded);
}

fn release_all_ends_what_the_agent_holds_and_nothing_else(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, same, b) = (fixture.manager("a"), fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "1");
    acquired(&same, "2");
    acquired(&b, "3");
    fixture.advance(11 * SECOND);
    acquired(&a, "4");
    assert_eq!(a.release_all(soon()).unwrap(), 3);
    assert_eq!(a.release_all(soon()).unwrap(), 0);
    assert!(b.get(&t("3"), &t("PLAN"), soon()).unwrap().is_some());
}

fn two_managers_with_one_id_are_one_holder(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, same) = (fixture.manager("a"), fixture.manager("a"));
    acquired(&a, "t");
    assert!(holds(&same, "t") && is_refused(&same, "t"));
    assert!(matches!(renew(&same, "t"), Renewal::Renewed { .. }));
    assert!(release(&same, "t"));
}

fn setting_the_wall_clock_changes_nothing(new_fixture: NewFixture) {
    for step in [-400 * HOUR, 400 * HOUR] {
        let fixture = new_fixture();
        let (a, b) = (fixture.manager("a"), fixture.manager("b"));
        acquired(&a, "t");
        fixture.clock.step_wall(step);
        assert!(holds(&a, "t"));
        assert_eq!(acquire(&b, "t"), Acquisition::Held { holder: t("a"), remaining_ms: 10 * SECOND });
        fixture.advance(10 * SECOND);
        assert!(!holds(&a, "t"));
        acquired(&b, "t");
    }
}

#[test]
fn a_renewal_counts_from_when_it_was_made_whatever_the_wall_clock_says() {
    for step in [-400 * HOUR, 400 * HOUR] {
        let fixture = Fixture::new();
        let (a, b) = (fixture.manager("a"), fixture.manager("b"));
        acquired(&a, "t");
        fixture.clock.advance(9 * SECOND);
        fixture.clock.step_wall(step);
        assert!(matches!(renew(&a, "t"), Renewal::Renewed { .. }));
        fixture.clock.step_wall(-step);
        assert_eq!(acquire(&b, "t"), Acquisition::Held { holder: t("a"), remaining_ms: 10 * SECOND });
        fixture.clock.advance(10 * SECOND);
        acquired(&b, "t");
    }
}

#[test]
fn a_reboot_ends_all_leases_and_no_token_comes_again() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let before = acquired(&a, "t");
    fixture.clock.reboot();
    assert!(!holds(&a, "t"));
    let after = acquired(&fixture.manager("b"), "t");
    assert!(after.fencing_token >= 1 << 20, "{}", after.fencing_token);
    assert!(after.fencing_token > before.fencing_token);
    // A power cut may have taken everything since the last synced commit: it comes back to a state like this one.
    fixture.connection().execute("UPDATE phase_lease_meta SET next_token = 1", []).unwrap();
    fixture.clock.reboot();
    fixture.clock.advance(1);
    assert!(acquired(&a, "t").fencing_token > after.fencing_token);
}

#[test]
fn a_first_acquisition_after_a_boot_that_must_not_block_leaves_the_sync_to_one_that_may() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    fixture.clock.reboot();
    assert!(matches!(a.acquire(&t("t"), &t("PLAN"), Patience::Now), Err(Error::DatabaseLocked)));
    acquired(&a, "t");
    assert!(a.acquire(&t("u"), &t("PLAN"), Patience::Now).is_ok());
}

#[test]
fn the_ceiling_rises_before_tokens_reach_it() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let ceiling: i64 = fixture.query("SELECT token_ceiling FROM phase_lease_meta");
    fixture.connection().execute("UPDATE phase_lease_meta SET next_token = token_ceiling - 1", []).unwrap();
    assert_eq!(acquired(&a, "1").fencing_token, ceiling - 1);
    assert_eq!(acquired(&a, "2").fencing_token, ceiling);
    assert_eq!(fixture.query::<i64>("SELECT token_ceiling FROM phase_lease_meta"), ceiling + (1 << 20));
}

fn statistics_count_over_all_managers(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    assert_eq!(a.stats(soon()).unwrap(), LeaseStats::default());
    acquired(&a, "1");
    acquired(&a, "2");
    acquired(&a, "3");
    renew(&a, "3");
    assert!(is_refused(&b, "1") && is_refused(&a, "1"));
    fixture.advance(4 * SECOND);
    fixture.clock.step_wall(HOUR);
    release(&a, "1");
    fixture.advance(20 * SECOND);
    // Expired 10 s after its acquisition, whenever it is taken over.
    acquired(&b, "2");
    let expected = LeaseStats {
        total_leases: 2,
        active_leases: 1,
        expired_leases: 1,
        average_hold_time_s: 7.0,
        max_renewals: 1,
        contention_events: 2,
    };
    for manager in [&a, &b] {
        assert_eq!(manager.stats(soon()).unwrap(), expected);
    }
    drop((a, b));
    assert_eq!(fixture.manager("c").stats(soon()).unwrap(), expected);
}

#[test]
fn statistics_reach_the_store_within_a_second() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "1");
    is_refused(&a, "1");
    let deadline = Instant::now() + Duration::from_secs(5);
    while fixture.query::<i64>("SELECT contention_events FROM phase_lease_meta") == 0 {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(a.stats(soon()).unwrap().contention_events, 1);
}

#[test]
fn a_duration_that_is_none_is_refused() {
    let fixture = Fixture::new();
    let options = LeaseOptions { lease_duration_ms: 0, ..options("a") };
    let error = LeaseManager::open(fixture.path(), options, fixture.clock.clone()).err().unwrap();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
    assert!(!fixture.path().join("state").exists());
}

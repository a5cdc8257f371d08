//! A lease ends while the server looks at it.

use super::abandoned::{deadline, keep_lock, waiting};
use super::*;
use crate::lease::{Closing, LeaseKey, LeaseStore, Wait};

const HOUR_MS: i64 = 3_600_000;

/// From now on time passes within each transaction: it is so many hours later after so many looks at the clock.
fn let_time_pass(place: &Place<'_>, looks: u32, (before, after): (u32, u32)) {
    place.server.execute(&format!(
        "CREATE OR REPLACE FUNCTION {}.now_1() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
         DECLARE
           v_looks int := coalesce(nullif(current_setting('driftlock.looks', true), ''), '0');
         BEGIN
           PERFORM set_config('driftlock.looks', (v_looks + 1)::text, true);
           RETURN clock_timestamp() + interval '1 hour' * CASE WHEN v_looks < {looks} THEN {before} ELSE {after} END;
         END $$",
        quoted(&place.schema)
    ));
}

#[test]
fn nothing_is_granted_without_the_lock_though_it_ends_while_it_is_looked_at() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, b, store) =
        (place.manager("a"), place.manager("b"), place.store_at(&server.url(&place.schema)).unwrap());
    let lease = acquired(&a, "t");
    let mut session = store.server.pool.connect(deadline()).unwrap();
    keep_lock(&place, &mut session, "t");
    for looks in 1..=3 {
        let_time_pass(&place, looks, (0, 1));
        // It was held when it was looked at first, and who goes by that needs no lock.
        let answer = acquire(&b, "t");
        assert!(matches!(answer, Acquisition::Held { .. }), "after {looks}: {answer:?}");
        assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(lease.clone()));
    }
}

#[test]
fn what_was_renewed_while_the_lock_was_waited_for_is_not_granted_without_its_row() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, b, store) =
        (place.manager("a"), place.manager("b"), place.store_at(&server.url(&place.schema)).unwrap());
    let lease = acquired(&a, "t");
    let mut session = store.server.pool.connect(deadline()).unwrap();
    keep_lock(&place, &mut session, "t");
    let_time_pass(&place, 2, (1, 9));
    std::thread::scope(|scope| {
        // It is over at the first look, not at the second one, and again at a third one.
        let acquiring = scope.spawn(|| acquire(&b, "t"));
        let end = deadline();
        while waiting(&place, "acquire_1") == 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let closing = Closing::default();
        let key = LeaseKey { task: &t("t"), phase: &t("PLAN") };
        assert!(store.extend(key, &lease.lease_id, HOUR_MS, Wait::new(soon(), &closing)).unwrap());
        session.batch("ROLLBACK", deadline()).unwrap();
        let answer = acquiring.join().unwrap();
        assert!(matches!(answer, Acquisition::Held { .. }), "{answer:?}");
    });
}

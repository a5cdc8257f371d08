//! A try that nobody waits for any more is still under way in the server.

use postgres_types::Type;
use uuid::Uuid;

use super::super::keys::KeyId;
use super::*;
use crate::lease::{Claim, LeaseKey, OwnedKey};
use crate::postgres::Session;

/// Keeps the lock of a task until it is told to stop, as a fence does.
pub(super) fn keep_lock(place: &Place<'_>, session: &mut Session, task: &str) {
    let id = id(place, task);
    session.batch("BEGIN", deadline()).unwrap();
    session.query("SELECT pg_advisory_xact_lock($1)", &[(&id.lock, Type::INT8)], deadline()).unwrap();
}

fn id(place: &Place<'_>, task: &str) -> KeyId {
    KeyId::of(LeaseKey { task: &t(task), phase: &t("PLAN") }, &place.schema)
}

pub(super) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// How many calls of a function of this schema wait for a lock.
pub(super) fn waiting(place: &Place<'_>, function: &str) -> i64 {
    let call = format!("{}.{function}(", quoted(&place.schema));
    place.number(&format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, '{call}') > 0"
    ))
}

#[test]
fn what_is_granted_to_nobody_any_more_is_taken_back() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, store) = (place.manager("a"), place.store_at(&server.url(&place.schema)).unwrap());
    let mut session = store.server.pool.connect(deadline()).unwrap();
    let impatient = || Patience::lasting(Duration::from_millis(100));
    let by_acquisition = || a.acquire(&t("t"), &t("PLAN"), impatient()).map(drop);
    let by_claim = || {
        let key = OwnedKey { task: t("t"), phase: t("PLAN") };
        let claim = Claim { queue_ms: 60_000, ..a.new_claim(vec![key]) };
        a.store().claim(&claim, a.wait(impatient()).unwrap()).map(drop)
    };
    let calls: [(&str, &dyn Fn() -> Result<()>); 2] =
        [("acquire_1", &by_acquisition), ("claim_1", &by_claim)];
    for (function, call) in calls {
        keep_lock(&place, &mut session, "t");
        let tokens = || place.number("SELECT last_value + is_called::int FROM @.tokens");
        let before = tokens();
        let error = call().unwrap_err();
        assert_eq!(error.code(), "SERVER_UNREACHABLE", "{error}");
        assert_eq!(waiting(&place, function), 1);
        session.batch("ROLLBACK", deadline()).unwrap();
        // The server grants it all the same.
        let begin = Instant::now();
        while tokens() == before {
            assert!(begin.elapsed() < Duration::from_secs(20), "it is not granted");
        }
        while a.get(&t("t"), &t("PLAN"), soon()).unwrap().is_some() {
            assert!(begin.elapsed() < Duration::from_secs(20), "nobody takes it back");
        }
        assert_eq!(place.number("SELECT count(*) FROM @.waiters"), 0);
    }
}

#[test]
fn a_try_waits_in_the_server_for_a_few_seconds_at_most() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, store) = (place.manager("a"), place.store_at(&server.url(&place.schema)).unwrap());
    let mut session = store.server.pool.connect(deadline()).unwrap();
    keep_lock(&place, &mut session, "t");
    assert!(a.acquire(&t("t"), &t("PLAN"), Patience::lasting(Duration::from_secs(1))).is_err());
    assert_eq!(waiting(&place, "acquire_1"), 1);
    // Others are not in its way.
    acquired(&a, "u");
    let begin = Instant::now();
    while waiting(&place, "acquire_1") > 0 {
        assert!(begin.elapsed() < Duration::from_secs(30), "it waits for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The second try of a release comes before the first one, which a slow way has kept.
#[test]
fn a_release_that_comes_late_ends_nothing_that_was_acquired_since() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (a, store) = (place.manager("a"), place.store_at(&server.url(&place.schema)).unwrap());
    let mut session = store.server.pool.connect(deadline()).unwrap();
    let (id, agent) = (id(&place, "t"), t("a"));
    for is_held in [true, false] {
        let one = (Uuid::new_v4(), Uuid::new_v4());
        let all = (Uuid::new_v4(), Uuid::new_v4());
        let mut release_one = |is_repeat: bool| -> i64 {
            let parameters = &[
                (&id.lock as _, Type::INT8),
                (&&id.digest[..] as _, Type::BYTEA),
                (&agent.as_wtf8() as _, Type::BYTEA),
                (&None::<Uuid> as _, Type::UUID),
                (&one.0 as _, Type::UUID),
                (&one.1 as _, Type::UUID),
                (&is_repeat as _, Type::BOOL),
            ];
            store.server.function(&mut session, "release_1", parameters, deadline()).unwrap()[0].get(0)
        };
        if is_held {
            acquired(&a, "t");
        }
        let answer = release_one(true);
        assert_eq!(answer, i64::from(is_held));
        let lease = acquired(&a, "t");
        assert_eq!(release_one(false), answer);
        assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(lease));
        assert!(release(&a, "t"));

        let mut release_all = |is_repeat: bool| -> i64 {
            let parameters = &[
                (&agent.as_wtf8() as _, Type::BYTEA),
                (&all.0 as _, Type::UUID),
                (&all.1 as _, Type::UUID),
                (&is_repeat as _, Type::BOOL),
            ];
            store.server.function(&mut session, "release_all_1", parameters, deadline()).unwrap()[0].get(0)
        };
        if is_held {
            acquired(&a, "t");
        }
        let answer = release_all(true);
        assert_eq!(answer, i64::from(is_held));
        let lease = acquired(&a, "t");
        assert_eq!(release_all(false), answer);
        assert_eq!(a.get(&t("t"), &t("PLAN"), soon()).unwrap(), Some(lease));
        assert!(release(&a, "t"));
    }
}

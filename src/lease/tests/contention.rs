//! Others who use the database at the same time.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::error::Error;
use crate::lease::Renewal;

on_each_store! {
    one_of_many_threads_gets_the_lease_and_each_token_is_given_once,
}

/// A connection that holds the write lock.
fn writing(fixture: &Fixture) -> Connection {
    let connection = fixture.connection();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[test]
fn a_call_that_must_not_block_fails_at_once_and_reads_go_on() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    acquired(&a, "t");
    let other = writing(&fixture);
    let (task, phase) = (t("u"), t("PLAN"));
    let begin = Instant::now();
    let error = a.acquire(&task, &phase, Patience::Now).unwrap_err();
    assert_eq!(error.to_string(), "database is locked");
    assert!(matches!(a.renew(&t("t"), &phase, Patience::Now), Err(Error::DatabaseLocked)));
    assert!(matches!(a.release(&t("t"), &phase, Patience::Now), Err(Error::DatabaseLocked)));
    assert!(begin.elapsed() < Duration::from_millis(500));
    // Neither of these needs the lock.
    assert!(holds(&a, "t"));
    assert!(matches!(a.acquire(&t("t"), &phase, Patience::Now), Ok(Acquisition::Held { .. })));
    assert_eq!(fixture.manager("b").get(&task, &phase, soon()).unwrap(), None);
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(a.acquire(&task, &phase, Patience::Now), Ok(Acquisition::Acquired(_))));
}

#[test]
fn a_patient_call_waits_until_the_lock_is_free_or_its_time_is_over() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let other = writing(&fixture);
    let begin = Instant::now();
    let patience = Patience::Until(begin + Duration::from_millis(60));
    assert!(matches!(a.acquire(&t("t"), &t("PLAN"), patience), Err(Error::DatabaseLocked)));
    assert!(begin.elapsed() >= Duration::from_millis(60) && begin.elapsed() < Duration::from_secs(2));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| acquired(&a, "t"));
        std::thread::sleep(Duration::from_millis(30));
        // The connection is free for others while it waits.
        assert!(!holds(&a, "t"));
        other.execute_batch("COMMIT").unwrap();
        waiting.join().unwrap();
    });
    assert!(holds(&a, "t"));
}

#[test]
fn closing_ends_a_wait() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let b = fixture.manager("b");
    let other = writing(&fixture);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| a.acquire(&t("t"), &t("PLAN"), soon()));
        std::thread::sleep(Duration::from_millis(30));
        let begin = Instant::now();
        a.close();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
        assert!(begin.elapsed() < Duration::from_millis(500));
    });
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(b.get(&t("t"), &t("PLAN"), soon()).unwrap(), None);
}

fn one_of_many_threads_gets_the_lease_and_each_token_is_given_once(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let managers: Vec<_> = (0..4).map(|agent| fixture.manager(&format!("agent {agent}"))).collect();
    let (start, inside) = (Barrier::new(managers.len()), AtomicU32::new(0));
    let mut tokens: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = managers
            .iter()
            .map(|manager| {
                scope.spawn(|| {
                    start.wait();
                    let mut tokens = Vec::new();
                    for _ in 0..150 {
                        if let Acquisition::Acquired(lease) = acquire(manager, "t") {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            tokens.push(lease.fencing_token);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            assert!(release(manager, "t"));
                        }
                    }
                    assert!(tokens.is_sorted());
                    tokens
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let given = tokens.len();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), given);
    let stats = managers[0].stats(soon()).unwrap();
    assert_eq!(stats.contention_events, 600 - u64::try_from(given).unwrap());
}

#[test]
fn a_renewal_and_a_release_go_through_while_another_connection_writes_on_and_on() {
    let fixture = Fixture::new();
    let a = fixture.manager("a");
    let other = fixture.connection();
    other.execute_batch("CREATE TABLE other (x)").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            for x in 0..300 {
                other.execute("INSERT INTO other VALUES (?)", [x]).unwrap();
            }
        });
        for _ in 0..100 {
            acquired(&a, "t");
            assert!(matches!(a.renew(&t("t"), &t("PLAN"), soon()), Ok(Renewal::Renewed { .. })));
            assert!(release(&a, "t"));
        }
        writer.join().unwrap();
    });
}

//! How often a call tries that finds the database locked.

use super::*;
use crate::clock::ManualClock;
use crate::lease::patience::Closing;

#[test]
fn a_call_that_cant_wait_tries_twice_unless_one_was_refused_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(0));
    let store = SqliteLeaseStore::open(folder.path(), clock, Durability::Process).unwrap();
    let closing = Closing::default();
    let tries = |patience| {
        let mut tries = 0;
        let answer = store.write(Wait::new(patience, &closing), |_, _| {
            tries += 1;
            Err::<(), _>(Failure::Busy)
        });
        assert!(matches!(answer, Err(Error::DatabaseLocked)), "{answer:?}");
        tries
    };
    assert_eq!(tries(Patience::Now), 2);
    assert_eq!(tries(Patience::Now), 1);
    // It comes instead of the one that was refused.
    assert!(tries(Patience::lasting(Duration::from_millis(1))) >= 1);
    assert_eq!(tries(Patience::Now), 2);
    store.write(Wait::new(Patience::Now, &closing), |_, _| Ok(())).unwrap();
    assert_eq!(tries(Patience::Now), 2);
}

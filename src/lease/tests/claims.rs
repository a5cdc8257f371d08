//! Several keys at once, in exchange for another, from the queue; fences, operators, events.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::error::Error;
use crate::lease::{Claim, Claimed, EventKind, Fence, Granted, LeaseKey, LeaseStats, OwnedKey, Ticket};

on_each_store! {
    a_claim_gets_all_of_its_keys_or_none,
    a_lease_is_handed_over_in_one_step_or_not_at_all,
    an_agent_that_may_get_its_own_lease_again_gets_it_for_its_full_duration,
    those_who_wait_get_the_lease_in_their_order,
    who_does_not_take_its_turn_is_passed_over_after_fifty_milliseconds_each,
    a_claim_for_several_keys_waits_for_all_of_them,
    waiting_ends_by_cancelling_by_time_and_by_closing,
    a_fence_passes_until_somebody_else_has_the_key,
    an_operator_s_release_leaves_a_record,
    what_happened_is_told_in_its_order,
    the_list_says_who_has_what_and_who_waits,
    an_extension_is_of_one_lease,
}

fn owned(task: &str) -> OwnedKey {
    OwnedKey { task: t(task), phase: t("PLAN") }
}

fn claim_of(agent: &str, tasks: &[&str], queue_ms: i64) -> Claim {
    Claim {
        keys: tasks.iter().map(|task| owned(task)).collect(),
        holder: t(agent),
        duration_ms: 10 * SECOND,
        takes_from_the_dead: false,
        is_reentrant: false,
        instead_of: None,
        queue_ms,
    }
}

fn claim(manager: &LeaseManager, claim: &Claim) -> Claimed {
    manager.store().claim(claim, manager.wait(soon()).unwrap()).unwrap()
}

fn granted(manager: &LeaseManager, asked: &Claim) -> Vec<Lease> {
    match claim(manager, asked) {
        Claimed::Granted(leases) => leases,
        other => panic!("{other:?}"),
    }
}

/// The ticket of a claim that has to wait.
fn queued(manager: &LeaseManager, asked: &Claim) -> Ticket {
    match claim(manager, asked) {
        Claimed::Refused { ticket: Some(ticket), .. } => ticket,
        other => panic!("{other:?}"),
    }
}

/// Waits in the queue; where the answer comes.
fn wait_for(manager: &LeaseManager, asked: &Claim) -> (Ticket, Receiver<Result<Granted>>) {
    let ticket = queued(manager, asked);
    let (sender, receiver) = channel();
    manager.store().await_turn(ticket, asked.clone(), Box::new(move |answer| sender.send(answer).unwrap()));
    (ticket, receiver)
}

fn answer(receiver: &Receiver<Result<Granted>>) -> Result<Granted> {
    receiver.recv_timeout(Duration::from_secs(20)).expect("an answer")
}

fn fence_of(lease: &Lease) -> Fence {
    let key = OwnedKey { task: lease.task_id.clone(), phase: lease.phase.clone() };
    Fence { key, token: lease.fencing_token, lease_id: lease.lease_id.clone() }
}

fn a_claim_gets_all_of_its_keys_or_none(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "2");
    match claim(&b, &claim_of("b", &["3", "2", "1"], 0)) {
        Claimed::Refused { key, holder, remaining_ms, ticket } => {
            assert_eq!((key, holder, remaining_ms, ticket), (owned("2"), t("a"), 10 * SECOND, None));
        }
        other => panic!("{other:?}"),
    }
    for task in ["1", "3"] {
        assert_eq!(a.get(&t(task), &t("PLAN"), soon()).unwrap(), None);
    }
    release(&a, "2");
    let leases = granted(&b, &claim_of("b", &["3", "2", "1"], 0));
    let tasks: Vec<_> = leases.iter().map(|lease| lease.task_id.to_string_lossy().into_owned()).collect();
    assert_eq!(tasks, ["3", "2", "1"]);
    let mut tokens: Vec<_> = leases.iter().map(|lease| lease.fencing_token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), 3);
    for task in ["1", "2", "3"] {
        assert!(holds(&b, task) && is_refused(&a, task));
    }
}

fn a_lease_is_handed_over_in_one_step_or_not_at_all(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let advance = |from, to| a.advance(owned(from), owned(to), soon()).unwrap();
    assert_eq!(advance("1", "2"), None);
    acquired(&a, "1");
    acquired(&b, "2");
    assert!(matches!(advance("1", "2"), Some(Acquisition::Held { .. })));
    assert!(holds(&a, "1"));
    release(&b, "2");
    assert!(matches!(advance("1", "2"), Some(Acquisition::Acquired(_))));
    assert!(holds(&a, "2") && !holds(&a, "1"));
    acquired(&b, "1");
    assert_eq!(advance("1", "3"), None);
    let mut other_lease = claim_of("a", &["3"], 0);
    other_lease.instead_of = Some((owned("2"), Some("00000000-0000-4000-8000-000000000000".to_owned())));
    assert_eq!(claim(&a, &other_lease), Claimed::NothingToGiveUp);
    assert_eq!(a.stats(soon()).unwrap().total_leases, 2);
}

fn an_agent_that_may_get_its_own_lease_again_gets_it_for_its_full_duration(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let options = LeaseOptions { is_reentrant: true, ..options("a") };
    let (a, b) = (fixture.open(options).unwrap(), fixture.manager("b"));
    let first = acquired(&a, "t");
    fixture.advance(6 * SECOND);
    let again = acquired(&a, "t");
    assert_eq!((again.lease_id, again.fencing_token), (first.lease_id, first.fencing_token));
    fixture.advance(6 * SECOND);
    assert!(holds(&a, "t") && is_refused(&b, "t"));
}

fn those_who_wait_get_the_lease_in_their_order(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let manager = fixture.manager("a");
    acquired(&manager, "t");
    let waiting: Vec<_> =
        (0..5).map(|n| wait_for(&manager, &claim_of(&format!("w{n}"), &["t"], 60 * SECOND)).1).collect();
    assert!(release(&manager, "t"));
    for (n, receiver) in waiting.iter().enumerate() {
        let lease = answer(receiver).unwrap().leases.remove(0);
        assert_eq!(lease.agent_id, t(&format!("w{n}")));
        assert!(waiting[n + 1..].iter().all(|later| later.try_recv().is_err()));
        // Nobody else is let in between.
        assert!(is_refused(&manager, "t"));
        let key = LeaseKey { task: &lease.task_id, phase: &lease.phase };
        let wait = manager.wait(soon()).unwrap();
        assert!(manager.store().release(key, &lease.agent_id, Some(&lease.lease_id), wait).unwrap());
    }
    acquired(&manager, "t");
}

fn who_does_not_take_its_turn_is_passed_over_after_fifty_milliseconds_each(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "t");
    // Places that nobody sees to.
    queued(&a, &claim_of("c", &["t"], 60 * SECOND));
    queued(&a, &claim_of("d", &["t"], 60 * SECOND));
    release(&a, "t");
    for _ in 0..2 {
        assert_eq!(acquire(&b, "t"), Acquisition::Held { holder: t("c"), remaining_ms: 0 });
        fixture.advance(49);
    }
    fixture.advance(1);
    assert!(is_refused(&b, "t"));
    fixture.advance(1);
    acquired(&b, "t");
    // They keep their places.
    release(&b, "t");
    assert!(is_refused(&b, "t"));
    fixture.advance(60 * SECOND);
    acquired(&b, "t");
}

fn a_claim_for_several_keys_waits_for_all_of_them(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "1");
    acquired(&a, "2");
    let (_, receiver) = wait_for(&b, &claim_of("b", &["1", "2"], 60 * SECOND));
    release(&a, "1");
    assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err());
    release(&a, "2");
    assert_eq!(answer(&receiver).unwrap().leases.len(), 2);
    assert!(holds(&b, "1") && holds(&b, "2"));
}

fn waiting_ends_by_cancelling_by_time_and_by_closing(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "t");
    let (ticket, cancelled) = wait_for(&b, &claim_of("b", &["t"], 60 * SECOND));
    b.store().cancel(ticket);
    assert!(matches!(answer(&cancelled), Err(Error::Cancelled)));
    let (_, overdue) = wait_for(&b, &claim_of("b", &["t"], 50));
    match answer(&overdue) {
        Err(Error::LeaseHeld { holder, .. }) => assert_eq!(holder, t("a")),
        other => panic!("{other:?}"),
    }
    let (_, closed) = wait_for(&b, &claim_of("b", &["t"], 60 * SECOND));
    b.close();
    assert!(matches!(answer(&closed), Err(Error::Closed)));
    // None of them keeps anybody out.
    release(&a, "t");
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_refused(&a, "t") {
        assert!(Instant::now() < deadline);
    }
}

fn a_fence_passes_until_somebody_else_has_the_key(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let passes = |fence: &Fence| {
        let mut was_done = false;
        let mut work = || {
            was_done = true;
            Ok(())
        };
        let passed = a.fenced(fence, &mut work, soon());
        assert_eq!(passed.is_ok(), was_done);
        assert!(passed.is_ok() || passed.is_err_and(|error| error.code() == "FENCED"));
        was_done
    };
    let lease = acquired(&a, "t");
    let fence = fence_of(&lease);
    assert!(passes(&fence));
    assert!(!passes(&Fence { token: fence.token - 1, ..fence.clone() }));
    fixture.advance(11 * SECOND);
    // Ended, but nobody else can have written.
    assert!(passes(&fence));
    let newer = fence_of(&acquired(&b, "t"));
    assert!(!passes(&fence) && passes(&newer));
    release(&b, "t");
    assert!(!passes(&newer));
    let failing = a.fenced(&fence_of(&acquired(&a, "t")), &mut || Err(Error::Cancelled), soon());
    assert!(matches!(failing, Err(Error::Cancelled)));
    assert!(release(&a, "t"));
}

fn an_operator_s_release_leaves_a_record(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let (task, phase) = (t("t"), t("PLAN"));
    let key = LeaseKey { task: &task, phase: &phase };
    let force = || b.force_release(key, &t("an operator"), &t("stuck"), soon()).unwrap();
    assert_eq!(force(), None);
    let lease = acquired(&a, "t");
    assert_eq!(b.latest_event(soon()).unwrap(), 0);
    assert_eq!(force(), Some(lease.clone()));
    assert_eq!(force(), None);
    let events = b.events_after(0, soon()).unwrap();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.kind, event.id), (EventKind::ForcedRelease, b.latest_event(soon()).unwrap()));
    assert_eq!((&event.task_id, &event.phase, &event.agent_id), (&task, &phase, &t("a")));
    assert_eq!((&event.by, &event.reason), (&Some(t("an operator")), &Some(t("stuck"))));
    assert_eq!(event.fencing_token, Some(lease.fencing_token));
    acquired(&b, "t");
}

fn what_happened_is_told_in_its_order(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    acquired(&a, "1");
    acquired(&a, "2");
    fixture.advance(10 * SECOND);
    acquired(&b, "1");
    granted(&b, &claim_of("b", &["2"], 0));
    let events = a.events_after(0, soon()).unwrap();
    let told: Vec<_> =
        events.iter().map(|event| (event.kind, event.task_id.clone(), event.by.clone())).collect();
    assert_eq!(told, [(EventKind::Expiry, t("1"), Some(t("b"))), (EventKind::Expiry, t("2"), Some(t("b")))]);
    assert_eq!(a.events_after(events[0].id, soon()).unwrap(), events[1..]);
    // Each expired hold lasted 10 s.
    let stats = a.stats(soon()).unwrap();
    assert_eq!(stats, LeaseStats { average_hold_time_s: 10.0, total_leases: 2, active_leases: 2, ..stats });
}

fn the_list_says_who_has_what_and_who_waits(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let (second, first) = (acquired(&a, "2"), acquired(&b, "1"));
    queued(&b, &claim_of("b", &["2"], 60 * SECOND));
    fixture.advance(4 * SECOND);
    let list = a.list(soon()).unwrap();
    assert_eq!(list.iter().map(|listed| &listed.lease).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!(list.iter().map(|listed| listed.waiters).collect::<Vec<_>>(), [0, 1]);
    for listed in list {
        assert_eq!((listed.held_ms, listed.remaining_ms), (4 * SECOND, 6 * SECOND));
        assert_eq!(listed.process.unwrap().0, std::process::id());
    }
    fixture.advance(100 * SECOND);
    assert!(a.list(soon()).unwrap().iter().all(|listed| listed.remaining_ms == 0 && listed.waiters == 0));
}

fn an_extension_is_of_one_lease(new_fixture: NewFixture) {
    let fixture = new_fixture();
    let (a, b) = (fixture.manager("a"), fixture.manager("b"));
    let lease = acquired(&a, "t");
    let (task, phase) = (t("t"), t("PLAN"));
    let extend = |lease: &Lease| {
        let key = LeaseKey { task: &task, phase: &phase };
        a.store().extend(key, &lease.lease_id, 20 * SECOND, a.wait(soon()).unwrap()).unwrap()
    };
    assert!(extend(&lease));
    let extended = a.get(&task, &phase, soon()).unwrap().unwrap();
    assert_eq!(extended.renewed_count, 0);
    fixture.advance(19 * SECOND);
    assert!(holds(&a, "t") && is_refused(&b, "t"));
    fixture.advance(SECOND);
    let taken = acquired(&b, "t");
    assert!(!extend(&lease) && extend(&taken));
    assert!(!extend(&Lease { lease_id: "no id".to_owned(), ..lease }));
}

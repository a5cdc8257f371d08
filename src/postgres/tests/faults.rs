//! Many at once, while the server is killed, or behind a pooler.

use std::collections::BTreeSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::postgres::pooler::Pooler;

/// Has each of the URLs append and attest that many times, and sees whether everything is there, once.
fn storm(urls: &[String], rounds: usize, meanwhile: impl FnOnce(&AtomicUsize)) {
    let done = AtomicUsize::new(0);
    let (mut lines, mut firsts) = (Vec::new(), 0);
    std::thread::scope(|scope| {
        let workers: Vec<_> = urls
            .iter()
            .enumerate()
            .map(|(n, url)| {
                let done = &done;
                scope.spawn(move || {
                    let (ledger, attestations) = (ledger(url), attestations(url));
                    let (mut lines, mut firsts) = (Vec::new(), 0);
                    for round in 0..rounds {
                        lines.push(append(&ledger, &format!("own {n}"), &round.to_string()));
                        // All of them want to be the first.
                        let answer = attest(&attestations, &format!("shared {round}"), &n.to_string());
                        firsts += usize::from(answer.baseline_hash.is_none());
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                    (lines, firsts)
                })
            })
            .collect();
        meanwhile(&done);
        for worker in workers {
            let (of_worker, first) = worker.join().unwrap();
            lines.push(of_worker);
            firsts += first;
        }
    });
    let (ledger, attestations) = (ledger(&urls[0]), attestations(&urls[0]));
    let total = urls.len() * rounds;
    let found = ledger.verify(soon()).unwrap();
    assert!(found.is_valid() && found.entries_checked == total as u64, "{found:?}");
    for (n, of_worker) in lines.iter().enumerate() {
        let history = ledger.history(&t(&format!("own {n}")), soon()).unwrap();
        assert!(history.iter().map(Vec::as_slice).eq(of_worker.iter().map(String::as_bytes)));
    }
    let stats = ledger.stats(soon()).unwrap();
    assert_eq!((stats.total_entries, stats.unique_tasks), (total as u64, urls.len() as u64));
    assert_eq!(firsts, rounds);
    let stats = attestations.stats(soon()).unwrap();
    assert_eq!((stats.total_attestations, stats.drift_detections), (total as u64, (total - rounds) as u64));
    let records: BTreeSet<Vec<u8>> = (0..rounds)
        .flat_map(|round| attestations.history(&t(&format!("shared {round}")), soon()).unwrap())
        .collect();
    assert_eq!(records.len(), total);
}

fn urls(place: &Place<'_>, count: usize) -> Vec<String> {
    (0..count).map(|n| another(&place.url(), &n.to_string())).collect()
}

#[test]
fn nothing_is_lost_or_done_twice_while_the_server_is_killed() {
    let Some(mut server) = TestServer::start(&[]) else { return };
    let urls = urls(&Place::on(&server), 8);
    storm(&urls, 100, |done| {
        for kills in 1..=2 {
            let deadline = Instant::now() + Duration::from_secs(60);
            while done.load(Ordering::SeqCst) < kills * 200 {
                assert!(Instant::now() < deadline, "nobody gets on");
                std::thread::sleep(Duration::from_millis(1));
            }
            server.kill();
            server.run();
        }
    });
}

#[test]
fn a_pooler_that_changes_connections_makes_no_difference() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let Some(pooler) = Pooler::before(server) else { return };
    let urls: Vec<String> = (0..6).map(|n| another(&place.url_by(pooler.port), &n.to_string())).collect();
    storm(&urls, 20, |_| ());
    assert_eq!(place.number("SELECT count(*) FROM pg_prepared_statements"), 0);
}

#[test]
fn batches_that_want_the_same_baselines_never_wait_for_each_other() {
    let Some(server) = TestServer::start(&[]) else { return };
    let place = Place::on(&server);
    let (firsts, barrier) = (AtomicUsize::new(0), Barrier::new(4));
    std::thread::scope(|scope| {
        for (n, url) in urls(&place, 4).into_iter().enumerate() {
            let (firsts, barrier) = (&firsts, &barrier);
            scope.spawn(move || {
                let attestations = attestations(&url);
                for round in 0..5 {
                    let mut prompts: Vec<Prepared> =
                        (0..200).map(|task| prompt(&format!("{round} {task}"), &n.to_string())).collect();
                    if n % 2 == 1 {
                        prompts.reverse();
                    }
                    let prompts: Vec<&Prepared> = prompts.iter().collect();
                    barrier.wait();
                    let answers = attestations.attest(&prompts, Durability::Process, soon()).unwrap();
                    let first = answers.iter().filter(|answer| answer.baseline_hash.is_none()).count();
                    firsts.fetch_add(first, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(firsts.into_inner(), 1000);
    assert_eq!(place.number("SELECT count(*) FROM @.attestations"), 4000);
    assert_eq!(place.number("SELECT count(*) FROM @.baselines"), 1000);
    // A connection tells of what it has met at its end, at the latest.
    let deadline = Instant::now() + Duration::from_secs(20);
    while place.number(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name <> 'driftlock' AND client_port = -1",
    ) > 0
    {
        assert!(Instant::now() < deadline, "the connections stay");
    }
    assert_eq!(place.number("SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"), 0);
}

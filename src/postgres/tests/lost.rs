//! The connection is cut before the server has the request, or after it has committed: each call is done once.

use super::*;
use crate::attestation::{BaselineUpdate, DriftStats};
use crate::postgres::proxy::{Loss, Proxy};

/// Runs a test for each kind of loss; it gets the URL behind which things are lost, and what loses them.
fn for_each_loss(test: impl Fn(&Place<'_>, &str, &dyn Fn())) {
    let Some(server) = TestServer::shared() else { return };
    for loss in [Loss::Request, Loss::Reply] {
        let (place, proxy) = (Place::on(server), Proxy::of(server.port));
        let losses = std::cell::Cell::new(0);
        test(&place, &place.url_by(proxy.port), &|| {
            proxy.lose(loss);
            losses.set(losses.get() + 1);
        });
        assert_eq!(proxy.losses(), losses.get(), "{loss:?}");
    }
}

#[test]
fn entries_are_appended_once() {
    for_each_loss(|place, url, lose| {
        let ledger = ledger(url);
        append(&ledger, "a", "1");
        lose();
        let steps = [step("a", "2"), step("b", "1"), step("a", "3")];
        let lines = ledger.append(&steps.each_ref(), Durability::PowerCut, soon()).unwrap();
        // Whoever appends next does not get what the lost answer was.
        append(&ledger, "c", "1");
        assert_eq!(place.number("SELECT count(*) FROM @.entries"), 5);
        let found = ledger.verify(soon()).unwrap();
        assert!(found.is_valid() && found.entries_checked == 5, "{found:?}");
        assert_eq!(ledger.history(&t("a"), soon()).unwrap()[1..], [lines[0].as_bytes(), lines[2].as_bytes()]);
        assert_eq!(ledger.stats(soon()).unwrap().unique_tasks, 3);
    });
}

#[test]
fn attestations_are_recorded_and_counted_once_and_answered_as_they_were() {
    for_each_loss(|place, url, lose| {
        let attestations = attestations(url);
        attest(&attestations, "known", "1");
        lose();
        let prompts = [prompt("known", "2"), prompt("new", "1"), prompt("new", "2"), prompt("known", "1")];
        let answers = attestations.attest(&prompts.each_ref(), Durability::PowerCut, soon()).unwrap();
        let drifts: Vec<bool> = answers.iter().map(|answer| answer.drift.is_drift()).collect();
        assert_eq!(drifts, [true, false, true, false]);
        assert!(answers[1].baseline_hash.is_none() && answers[3].baseline_hash.is_some());
        assert_eq!(place.number("SELECT count(*) FROM @.attestations"), 5);
        let stats = attestations.stats(soon()).unwrap();
        let severity_counts = [(t("none"), 3), (t("high"), 2)].into();
        let expected =
            DriftStats { total_attestations: 5, drift_detections: 2, severity_counts, damaged_lines: 0 };
        assert_eq!(stats, expected);
    });
}

#[test]
fn a_baseline_is_reset_once() {
    for_each_loss(|place, url, lose| {
        let attestations = attestations(url);
        attest(&attestations, "a", "1");
        let reset = |task: &str| {
            let update = BaselineUpdate { reason: Some(t("agreed")), ..BaselineUpdate::default() };
            let hash = t(prompt("a", "2").hash());
            attestations.reset(&t(task), &t("VERIFY"), &hash, update, Durability::Process, soon()).unwrap();
        };
        lose();
        reset("a");
        lose();
        reset("new");
        assert_eq!(place.number("SELECT sum(version)::bigint FROM @.baselines"), 3);
        assert_eq!(place.number("SELECT count(*) FROM @.baseline_updates"), 2);
        assert!(!attest(&attestations, "a", "2").drift.is_drift());
    });
}

#[test]
fn a_request_that_comes_late_after_all_does_nothing() {
    // Somebody on the way has kept it while it was made again.
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (ledger, attestations) = (ledger(&place.url()), attestations(&place.url()));
    append(&ledger, "a", "1");
    attest(&attestations, "a", "1");
    let schema = quoted(&place.schema);
    let request =
        place.server.execute(&format!("SELECT request::text FROM {schema}.entries"))[0].get::<_, String>(0);
    let id =
        place.server.execute(&format!("SELECT id::text FROM {schema}.attestations"))[0].get::<_, String>(0);
    let append = format!(
        "DO $$ BEGIN PERFORM {schema}.append_1('{request}', false, ARRAY[gen_random_uuid()], ARRAY[1], ARRAY['x'::bytea],
           ARRAY[NULL::bytea], ARRAY[''::bytea], false, NULL, NULL, NULL, NULL);
         EXCEPTION WHEN unique_violation THEN NULL; END $$"
    );
    server.execute(&append);
    let nulls = "ARRAY[NULL::bytea]";
    server.execute(&format!(
        "SELECT {schema}.attest_1(ARRAY['{id}'::uuid], false, ARRAY[1], ARRAY['k'::bytea], ARRAY[1::bigint],
           ARRAY['t'::bytea], ARRAY['p'::bytea], ARRAY['h'::bytea], ARRAY['low'::bytea], {nulls}, {nulls}, {nulls}, {nulls},
           gen_random_uuid(), false, NULL, NULL, NULL, NULL)"
    ));
    assert_eq!(ledger.stats(soon()).unwrap().total_entries, 1);
    assert_eq!(attestations.stats(soon()).unwrap().total_attestations, 1);
}

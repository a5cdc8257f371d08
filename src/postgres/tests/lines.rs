//! The server writes what a file would have.

use proptest::prelude::*;

use super::*;
use crate::attestation::spec::Optional;
use crate::json;
use crate::ledger::entry::{StoredEntry, write_entry};

/// Strings with all that JSON escapes, and halves of surrogate pairs.
fn text() -> impl Strategy<Value = Text> {
    let unit = prop_oneof![0_u16..0x80, Just(0xD83D), Just(0xDE00), Just(0x2028), any::<u16>()];
    let units = proptest::collection::vec(unit, 0..12);
    prop_oneof![
        20 => units.prop_map(|units| Text::from_utf16(&units)),
        1 => Just(Text::from("\\".repeat(100_000))),
    ]
}

fn maybe() -> impl Strategy<Value = Option<Text>> {
    proptest::option::of(text())
}

prop_compose! {
    fn transition()(
        task_id in text(), from_phase in maybe(), to_phase in text(),
        evidence_artifacts in proptest::collection::vec(text(), 0..4), evidence_validated in any::<bool>(),
        agent_type in maybe(), duration_ms in proptest::option::of(proptest::num::f64::NORMAL),
        persona_hash in maybe(),
    ) -> Transition {
        Transition {
            task_id, from_phase, to_phase, evidence_artifacts, evidence_validated, agent_type, duration_ms, persona_hash,
        }
    }
}

#[test]
fn entries_are_byte_for_byte_those_of_a_file() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let ledger = ledger(&place.url());
    proptest!(ProptestConfig::with_cases(20), |(batch in proptest::collection::vec(transition(), 1..4))| {
        let steps: Vec<&Transition> = batch.iter().collect();
        let lines = ledger.append(&steps, Durability::Process, soon()).unwrap();
        prop_assert_eq!(lines.len(), steps.len());
        for (line, step) in lines.iter().zip(steps) {
            let entry = StoredEntry::from_line(line.as_bytes()).unwrap();
            let (id, timestamp) = (entry.id().unwrap().to_string(), entry.timestamp().unwrap().to_string());
            let previous = String::from_utf8(entry.previous_hash().unwrap().into_owned()).unwrap();
            let mut expected = Vec::new();
            write_entry(&mut expected, step, &id, &timestamp, &previous);
            prop_assert_eq!(line.as_bytes(), expected.trim_ascii_end());
            let history = ledger.history(&step.task_id, soon()).unwrap();
            prop_assert!(history.iter().any(|found| found == line.as_bytes()));
            prop_assert_eq!(uuid::Uuid::parse_str(&id).unwrap().to_string(), id);
        }
    });
    assert!(ledger.verify(soon()).unwrap().is_valid());
}

prop_compose! {
    fn spec()(
        task_id in text(), phase in text(), requirements in proptest::collection::vec(text(), 0..2),
        persona_hash in maybe(), persona_summary in maybe(), agent_type in maybe(), model_version in maybe(),
    ) -> PromptSpec {
        let optional = |text: Option<Text>| text.map_or(Optional::Null, Optional::Text);
        PromptSpec {
            task_id, phase, requirements, persona_hash: optional(persona_hash),
            persona_summary: optional(persona_summary), agent_type: optional(agent_type),
            model_version: optional(model_version), ..PromptSpec::default()
        }
    }
}

/// A record without what is another each time.
fn without_id_and_time(line: &[u8]) -> String {
    let line = String::from_utf8(line.to_vec()).unwrap();
    let [id, time] = json::fields(line.as_bytes(), ["attestation_id", "timestamp"]).unwrap();
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    line.replacen(&text(id), "id", 1).replacen(&text(time), "time", 1)
}

#[test]
fn records_are_those_that_files_have() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let (folder, attestations) = (tempfile::tempdir().unwrap(), attestations(&place.url()));
    let files = crate::attestation::FileAttestations::new(folder.path(), Arc::new(SystemClock));
    proptest!(ProptestConfig::with_cases(20), |(first in spec(), other in spec())| {
        // Of the same key, with everything else another.
        let other = PromptSpec { task_id: first.task_id.clone(), phase: first.phase.clone(), ..other };
        let prompts = [Prepared::new(first.clone()), Prepared::new(other), Prepared::new(first)];
        let on_server = attestations.attest(&prompts.each_ref(), Durability::Process, soon()).unwrap();
        let in_files = files.attest(&prompts.each_ref(), Durability::Process, soon()).unwrap();
        for (one, other) in on_server.iter().zip(&in_files) {
            prop_assert_eq!(&one.drift, &other.drift);
            prop_assert_eq!(&one.baseline_hash, &other.baseline_hash);
        }
        let task = &prompts[0].spec.task_id;
        let read = |lines: Vec<Vec<u8>>| -> Vec<String> { lines.iter().map(|line| without_id_and_time(line)).collect() };
        prop_assert_eq!(read(attestations.history(task, soon()).unwrap()), read(files.history(task, soon()).unwrap()));
    });
    assert_eq!(attestations.stats(soon()).unwrap(), files.stats(soon()).unwrap());
}

#[test]
fn a_record_that_was_made_elsewhere_is_given_as_it_was() {
    let Some(server) = TestServer::shared() else { return };
    let place = Place::on(server);
    let attestations = attestations(&place.url());
    attest(&attestations, "a", "1");
    let line = r#"{"task_id":"a","drift_detected":true}"#;
    server.execute(&format!(
        "INSERT INTO {}.attestations (id, at, task_key, line) VALUES (gen_random_uuid(), now(), {}, '{line}')",
        quoted(&place.schema),
        crate::digest::short_digest(b"a"),
    ));
    assert_eq!(attestations.history(&t("a"), soon()).unwrap()[1], line.as_bytes());
}

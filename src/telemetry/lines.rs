//! What a line of a journal counts for.

use super::Source;
use super::series::{Counter, FILES, Totals};
use crate::json;

/// Counts one line, without its line end. Blank lines are what is left where a half line had to be ended.
pub fn count(source: Source, line: &[u8], totals: &mut Totals) {
    if line.trim_ascii().is_empty() {
        return;
    }
    let counted = match source {
        Source::Counters => count_counter(line, totals),
        Source::Attestations => count_attestation(line, totals),
        Source::Ledger => count_entry(line, totals),
    };
    if counted.is_none() {
        totals.add(Counter::MalformedLines, &[FILES[source as usize].as_bytes()], 1.0);
    }
}

/// A counter in either shape: `{"counter", "value", …}` or `{"name", "value", …}`.
fn count_counter(line: &[u8], totals: &mut Totals) -> Option<()> {
    let [counter, value, name] = json::fields(line, ["counter", "value", "name"])?;
    let name = counter.or(name).and_then(json::string)?;
    let value: f64 = serde_json::from_slice(value?).ok()?;
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    totals.add(Counter::Counters, &[&name], value);
    match &*name {
        b"evidence_gate_passed" => totals.add(Counter::EvidenceGates, &[b"passed"], value),
        b"evidence_gate_failed" => totals.add(Counter::EvidenceGates, &[b"failed"], value),
        b"phase_validations_passed" => totals.add(Counter::PhaseValidations, &[b"passed"], value),
        b"phase_validations_failed" => totals.add(Counter::PhaseValidations, &[b"failed"], value),
        b"phase_skips_attempted" => totals.add(Counter::PhaseSkips, &[], value),
        _ => {}
    }
    Some(())
}

/// A record of the attestations log; older ones have no severity.
fn count_attestation(line: &[u8], totals: &mut Totals) -> Option<()> {
    let names = ["phase", "drift_detected", "persona_drift", "severity"];
    let [phase, drifted, persona, severity] = json::fields(line, names)?;
    let phase = phase.and_then(json::string).unwrap_or_default();
    let drifted = drifted == Some(b"true");
    let severity = severity.and_then(json::string);
    let severity = severity.as_deref().unwrap_or(if drifted { b"unknown" } else { b"none" });
    totals.add(Counter::Attestations, &[&phase, severity], 1.0);
    if drifted {
        totals.add(Counter::Drift, &[&phase, b"prompt", severity], 1.0);
    }
    if persona == Some(b"true") {
        totals.add(Counter::Drift, &[&phase, b"persona", severity], 1.0);
    }
    Some(())
}

fn count_entry(line: &[u8], totals: &mut Totals) -> Option<()> {
    let [phase] = json::fields(line, ["to_phase"])?;
    let phase = phase.and_then(json::string).unwrap_or_default();
    totals.add(Counter::LedgerEntries, &[&phase], 1.0);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(source: Source, lines: &[&str]) -> Vec<(String, f64)> {
        let mut totals = Totals::default();
        for line in lines {
            count(source, line.as_bytes(), &mut totals);
        }
        totals.to_map().into_iter().collect()
    }

    fn expect(found: &[(String, f64)], expected: &[(&str, f64)]) {
        let found: Vec<(&str, f64)> = found.iter().map(|(name, total)| (name.as_str(), *total)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_shapes_of_counters_are_read() {
        let found = counted(
            Source::Counters,
            &[
                r#"{"timestamp":"t","counter":"evidence_gate_failed","value":2,"metadata":{"errors":["a|b,c"]}}"#,
                r#"{"name":"evidence_gate_failed","value":1,"timestamp":"t","tags":{"phase":"VERIFY"}}"#,
                r#"{"counter":"evidence_gate_passed","value":0.5}"#,
                r#"{"counter":"phase_skips_attempted","name":"evidence_gate_passed","value":1}"#,
                r#"{"counter":"mine","value":7}"#,
            ],
        );
        expect(
            &found,
            &[
                ("evidence_gates_total{result=failed}", 3.0),
                ("evidence_gates_total{result=passed}", 0.5),
                ("phase_skips_total", 1.0),
                ("recorded_total{counter=evidence_gate_failed}", 3.0),
                ("recorded_total{counter=evidence_gate_passed}", 0.5),
                ("recorded_total{counter=other}", 7.0),
                ("recorded_total{counter=phase_skips_attempted}", 1.0),
            ],
        );
    }

    #[test]
    fn lines_that_say_nothing_are_malformed_and_blank_ones_are_not() {
        let found = counted(
            Source::Counters,
            &[
                r#"{"counter":"a","value":-1}"#,
                r#"{"counter":"a","value":1e999}"#,
                r#"{"counter":"a","value":"1"}"#,
                r#"{"counter":"a"}"#,
                r#"{"value":1}"#,
                r#"{"counter":"a","val"#,
                r#"{"counter":"a","value":1}{"counter":"b","value":1}"#,
                "[1]",
                "",
                " \r",
            ],
        );
        expect(&found, &[("malformed_lines_total{file=counters}", 8.0)]);
    }

    #[test]
    fn attestations_count_drift_by_dimension() {
        let found = counted(
            Source::Attestations,
            &[
                r#"{"phase":"VERIFY","drift_detected":true,"persona_drift":true,"severity":"high"}"#,
                r#"{"phase":"SPEC","drift_detected":false,"persona_drift":false,"severity":"none"}"#,
                r#"{"phase":"HOME_MADE","drift_detected":true}"#,
                "garbage",
            ],
        );
        expect(
            &found,
            &[
                ("attestations_total{phase=SPEC,severity=none}", 1.0),
                ("attestations_total{phase=VERIFY,severity=high}", 1.0),
                ("attestations_total{phase=other,severity=unknown}", 1.0),
                ("drift_total{phase=VERIFY,dimension=persona,severity=high}", 1.0),
                ("drift_total{phase=VERIFY,dimension=prompt,severity=high}", 1.0),
                ("drift_total{phase=other,dimension=prompt,severity=unknown}", 1.0),
                ("malformed_lines_total{file=attestations}", 1.0),
            ],
        );
    }

    #[test]
    fn entries_count_by_the_phase_entered() {
        let found = counted(
            Source::Ledger,
            &[r#"{"to_phase":"PLAN","from_phase":"SPEC"}"#, r#"{"to_phase":null}"#, "{"],
        );
        expect(
            &found,
            &[
                ("ledger_entries_total{phase=PLAN}", 1.0),
                ("ledger_entries_total{phase=other}", 1.0),
                ("malformed_lines_total{file=ledger}", 1.0),
            ],
        );
    }
}

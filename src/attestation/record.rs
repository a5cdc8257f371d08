//! A line of the attestations log, and what is kept in memory of the log.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::baseline::Baseline;
use super::drift::Drift;
use super::spec::PromptSpec;
use crate::journal::{Summary, TaskIndex};
use crate::json;
use crate::text::{Text, write_json};

/// How often prompts have drifted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DriftStats {
    /// All attestations that can be read.
    pub total_attestations: u64,
    /// Those that found a drift.
    pub drift_detections: u64,
    /// How many there were of each severity that was seen.
    pub severity_counts: BTreeMap<Text, u64>,
    /// Lines that can't be read.
    pub damaged_lines: u64,
}

impl DriftStats {
    /// The share of attestations that found a drift, from 0 to 1; 0 without any.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "counts of lines stay far below 2^52")]
    pub fn drift_rate(&self) -> f64 {
        if self.total_attestations == 0 {
            return 0.0;
        }
        self.drift_detections as f64 / self.total_attestations as f64
    }
}

/// Appends the record of an attestation, as one line.
pub fn write_record(
    out: &mut Vec<u8>,
    spec: &PromptSpec,
    hash: &str,
    baseline: Option<&Baseline>,
    drift: &Drift,
    timestamp: &str,
) {
    let fields = Fields {
        id: uuid::Uuid::new_v4(),
        task_id: spec.task_id.as_wtf8(),
        phase: spec.phase.as_wtf8(),
        prompt_hash: hash.as_bytes(),
        baseline_hash: baseline.map(|baseline| baseline.hash.as_wtf8()),
        drift_details: drift.details.as_deref(),
        timestamp,
        persona_hash: spec.persona_hash.text().map(Text::as_wtf8),
        persona_summary: spec.persona_summary.text().map(Text::as_wtf8),
        has_other_persona: drift.persona_details.is_some(),
        agent_type: spec.agent_type.text().map(Text::as_wtf8),
        model_version: spec.model_version.text().map(Text::as_wtf8),
        severity: drift.severity.as_str().as_bytes(),
        baseline_version: baseline.map_or(1, |baseline| baseline.version),
    };
    fields.write(out);
    out.push(b'\n');
}

/// What is in a record; texts as WTF-8.
pub(super) struct Fields<'a> {
    pub(super) id: uuid::Uuid,
    pub(super) task_id: &'a [u8],
    pub(super) phase: &'a [u8],
    pub(super) prompt_hash: &'a [u8],
    /// None at the first attestation.
    pub(super) baseline_hash: Option<&'a [u8]>,
    /// None without drift.
    pub(super) drift_details: Option<&'a str>,
    pub(super) timestamp: &'a str,
    pub(super) persona_hash: Option<&'a [u8]>,
    pub(super) persona_summary: Option<&'a [u8]>,
    pub(super) has_other_persona: bool,
    pub(super) agent_type: Option<&'a [u8]>,
    pub(super) model_version: Option<&'a [u8]>,
    pub(super) severity: &'a [u8],
    pub(super) baseline_version: u64,
}

impl Fields<'_> {
    /// Appends the record, without a line end.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"attestation_id\":\"");
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        out.extend_from_slice(self.id.hyphenated().encode_lower(&mut id).as_bytes());
        out.extend_from_slice(b"\",\"task_id\":");
        write_json(self.task_id, out);
        field(out, "phase", Some(self.phase));
        field(out, "prompt_hash", Some(self.prompt_hash));
        field(out, "baseline_hash", self.baseline_hash);
        out.extend_from_slice(b",\"drift_detected\":");
        boolean(out, self.drift_details.is_some());
        field(out, "drift_details", self.drift_details.map(str::as_bytes));
        field(out, "timestamp", Some(self.timestamp.as_bytes()));
        field(out, "persona_hash", self.persona_hash);
        field(out, "persona_summary", self.persona_summary);
        out.extend_from_slice(b",\"persona_drift\":");
        boolean(out, self.has_other_persona);
        field(out, "agent_type", self.agent_type);
        field(out, "prompt_version", self.model_version);
        field(out, "severity", Some(self.severity));
        out.extend_from_slice(format!(",\"baseline_version\":{}}}", self.baseline_version).as_bytes());
    }
}

fn field(out: &mut Vec<u8>, name: &str, wtf8: Option<&[u8]>) {
    if let Some(wtf8) = wtf8 {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_json(wtf8, out);
    }
}

fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// The fields of a record that tell about a baseline. Older records lack some; one of a wrong type counts as absent.
#[derive(Debug)]
pub struct Record {
    /// The task.
    pub task_id: Option<Text>,
    /// The phase.
    pub phase: Option<Text>,
    /// The hash of the prompt.
    pub prompt_hash: Option<Text>,
    /// The baseline that it was compared with; none at the first attestation.
    pub baseline_hash: Option<Text>,
    /// When, as ISO 8601.
    pub timestamp: Option<Text>,
    /// The persona.
    pub persona_hash: Option<Text>,
    /// The baseline's version.
    pub baseline_version: Option<u64>,
}

impl Record {
    /// Reads a line of the log; `None` if it is damaged.
    #[must_use]
    pub fn from_line(line: &[u8]) -> Option<Self> {
        let names = [
            "task_id",
            "phase",
            "prompt_hash",
            "baseline_hash",
            "timestamp",
            "persona_hash",
            "baseline_version",
        ];
        let values = json::fields(line, names)?;
        let text = |position: usize| values[position].and_then(json::text);
        Some(Self {
            task_id: text(0),
            phase: text(1),
            prompt_hash: text(2),
            baseline_hash: text(3),
            timestamp: text(4),
            persona_hash: text(5),
            baseline_version: values[6].and_then(|value| serde_json::from_slice(value).ok()),
        })
    }
}

/// Whether a line of the log is a whole record of this task.
#[must_use]
pub fn is_of_task(line: &[u8], task: &Text) -> bool {
    json::fields(line, ["task_id"])
        .is_some_and(|[id]| id.and_then(json::string).is_some_and(|wtf8| *wtf8 == *task.as_wtf8()))
}

/// What a record counts for; texts as WTF-8.
pub(super) struct Counted<'a> {
    pub(super) task: Option<Cow<'a, [u8]>>,
    pub(super) drifted: bool,
    /// `unknown` or `none` for older records, which have none.
    pub(super) severity: Cow<'a, [u8]>,
}

impl<'a> Counted<'a> {
    /// Reads a line of the log; `None` if it is damaged.
    pub(super) fn from_line(line: &'a [u8]) -> Option<Self> {
        let [task, drifted, severity] = json::fields(line, ["task_id", "drift_detected", "severity"])?;
        let drifted = drifted == Some(b"true");
        let otherwise: &[u8] = if drifted { b"unknown" } else { b"none" };
        let severity = severity.and_then(json::string).unwrap_or(Cow::Borrowed(otherwise));
        Some(Self { task: task.and_then(json::string), drifted, severity })
    }
}

/// What is kept in memory of the attestations log.
#[derive(Debug, Default)]
pub struct LogSummary {
    /// Where each task's records are.
    pub tasks: TaskIndex,
    /// The counts over all records.
    pub stats: DriftStats,
}

impl Summary for LogSummary {
    fn add(&mut self, offset: u64, line: &[u8]) {
        let Some(Counted { task, drifted, severity }) = Counted::from_line(line) else {
            self.stats.damaged_lines += 1;
            return;
        };
        self.stats.total_attestations += 1;
        self.stats.drift_detections += u64::from(drifted);
        if let Some(count) = self.stats.severity_counts.get_mut(&*severity) {
            *count += 1;
        } else {
            let severity = Text::from_wtf8(severity.into_owned()).unwrap_or_default();
            self.stats.severity_counts.insert(severity, 1);
        }
        if let Some(task) = task {
            self.tasks.add(&task, offset, line.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Optional;
    use super::*;

    #[test]
    fn a_record_has_its_keys_in_order() {
        let spec = PromptSpec {
            task_id: "T".into(),
            phase: "VERIFY".into(),
            persona_hash: Optional::Text("p".into()),
            persona_summary: Optional::Text("s".into()),
            agent_type: Optional::Text("a".into()),
            model_version: Optional::Text("m".into()),
            ..PromptSpec::default()
        };
        let baseline = Baseline::from_json(br#"{"hash":"old","version":4,"personaHash":"q"}"#).unwrap();
        let drift = Drift::between(&spec, "new", Some(&baseline));
        let mut line = Vec::new();
        write_record(&mut line, &spec, "new", Some(&baseline), &drift, "2026-01-01T00:00:00.000Z");
        let line = String::from_utf8(line).unwrap();
        let keys: Vec<&str> = line.split('"').filter(|part| line.contains(&format!("\"{part}\":"))).collect();
        assert_eq!(
            keys,
            [
                "attestation_id",
                "task_id",
                "phase",
                "prompt_hash",
                "baseline_hash",
                "drift_detected",
                "drift_details",
                "timestamp",
                "persona_hash",
                "persona_summary",
                "persona_drift",
                "agent_type",
                "prompt_version",
                "severity",
                "baseline_version"
            ]
        );
        let record = Record::from_line(line.trim_end().as_bytes()).unwrap();
        assert_eq!(record.baseline_hash, Some("old".into()));
        assert_eq!(record.baseline_version, Some(4));
    }

    #[test]
    fn older_records_and_damaged_lines_are_counted_for_what_they_are() {
        let mut log = LogSummary::default();
        for line in [
            r#"{"task_id":"a","drift_detected":true}"#,
            r#"{"task_id":"a","drift_detected":false,"severity":null}"#,
            r#"{"task_id":"a","severity":"high","drift_detected":true}"#,
            "{\"task_id\":",
            "[1]",
            "12",
        ] {
            log.add(0, line.as_bytes());
        }
        assert_eq!((log.stats.total_attestations, log.stats.drift_detections), (3, 2));
        assert_eq!(log.stats.damaged_lines, 3);
        let counts: Vec<(String, u64)> =
            log.stats.severity_counts.iter().map(|(k, v)| (k.to_string(), *v)).collect();
        assert_eq!(counts, [("high".into(), 1), ("none".into(), 1), ("unknown".into(), 1)]);
    }
}

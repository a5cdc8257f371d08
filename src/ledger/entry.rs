//! One entry of the ledger, as a line of JSON, and its hashes.

use std::borrow::Cow;

use crate::digest::hex_digest;
use crate::json;
use crate::text::Text;

/// The `previous_hash` of the first entry.
pub const GENESIS: &str = "genesis";

/// A step of a task from one phase to the next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transition {
    /// The task.
    pub task_id: Text,
    /// The phase that is left; none at the beginning.
    pub from_phase: Option<Text>,
    /// The phase that is entered.
    pub to_phase: Text,
    /// What shows that the work was done, in the caller's order.
    pub evidence_artifacts: Vec<Text>,
    /// Whether somebody has checked it.
    pub evidence_validated: bool,
    /// The kind of agent.
    pub agent_type: Option<Text>,
    /// How long the phase took, in milliseconds. Finite.
    pub duration_ms: Option<f64>,
    /// A hash of the agent's persona.
    pub persona_hash: Option<Text>,
}

/// Appends the entry for a transition as one line. Returns its `entry_hash`.
pub fn write_entry(
    out: &mut Vec<u8>,
    transition: &Transition,
    id: &str,
    timestamp: &str,
    previous_hash: &str,
) -> String {
    let head = Head { id: &id.into(), timestamp: &timestamp.into(), previous_hash: &previous_hash.into() };
    let entry_hash = head.hash_with(transition);
    out.extend_from_slice(b"{\"entry_id\":");
    head.id.write_json(out);
    text_field(out, "timestamp", head.timestamp);
    text_field(out, "previous_hash", head.previous_hash);
    text_field(out, "entry_hash", &entry_hash.as_str().into());
    write_core(out, transition);
    if let Some(persona) = &transition.persona_hash {
        text_field(out, "persona_hash", persona);
    }
    write_details(out, transition);
    if let Some(persona) = &transition.persona_hash {
        text_field(out, "persona_seal", &persona_seal(&entry_hash.as_str().into(), persona).into());
    }
    out.extend_from_slice(b"}\n");
    entry_hash
}

/// What of an entry's line stands behind its hashes, for whoever makes the line where the hashes are known.
pub(super) struct Parts {
    /// The transition, from `,"task_id"` on.
    pub(super) core: Vec<u8>,
    /// The persona's hash, as a JSON string, if there is one.
    pub(super) persona: Option<Vec<u8>>,
    /// What follows it, if anything does.
    pub(super) details: Vec<u8>,
}

impl Parts {
    pub(super) fn of(transition: &Transition) -> Self {
        let (mut core, mut details) = (Vec::new(), Vec::new());
        write_core(&mut core, transition);
        write_details(&mut details, transition);
        let persona = transition.persona_hash.as_ref().map(|hash| {
            let mut json = Vec::new();
            hash.write_json(&mut json);
            json
        });
        Self { core, persona, details }
    }
}

struct Head<'a> {
    id: &'a Text,
    timestamp: &'a Text,
    previous_hash: &'a Text,
}

impl Head<'_> {
    /// The hash of `JSON.stringify` of the hashed fields in their order.
    fn hash_with(&self, transition: &Transition) -> String {
        let mut json = Vec::with_capacity(512);
        json.extend_from_slice(b"{\"entry_id\":");
        self.id.write_json(&mut json);
        text_field(&mut json, "timestamp", self.timestamp);
        text_field(&mut json, "previous_hash", self.previous_hash);
        write_core(&mut json, transition);
        write_details(&mut json, transition);
        json.push(b'}');
        hex_digest(&json)
    }
}

/// Covers the persona's hash, which the entry's hash leaves out: the hash of `JSON.stringify` of an object with the
/// two hashes. Entries without this field were written before there was one.
fn persona_seal(entry_hash: &Text, persona_hash: &Text) -> String {
    let mut json = b"{\"entry_hash\":".to_vec();
    entry_hash.write_json(&mut json);
    text_field(&mut json, "persona_hash", persona_hash);
    json.push(b'}');
    hex_digest(&json)
}

fn write_core(out: &mut Vec<u8>, transition: &Transition) {
    text_field(out, "task_id", &transition.task_id);
    match &transition.from_phase {
        Some(phase) => text_field(out, "from_phase", phase),
        None => out.extend_from_slice(b",\"from_phase\":null"),
    }
    text_field(out, "to_phase", &transition.to_phase);
    out.extend_from_slice(b",\"evidence_artifacts\":[");
    for (position, artifact) in transition.evidence_artifacts.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        artifact.write_json(out);
    }
    out.extend_from_slice(if transition.evidence_validated {
        b"],\"evidence_validated\":true"
    } else {
        b"],\"evidence_validated\":false"
    });
}

fn write_details(out: &mut Vec<u8>, transition: &Transition) {
    if let Some(agent_type) = &transition.agent_type {
        text_field(out, "agent_type", agent_type);
    }
    if let Some(duration) = transition.duration_ms {
        out.extend_from_slice(b",\"duration_ms\":");
        // JavaScript's own notation: it is hashed.
        out.extend_from_slice(ryu_js::Buffer::new().format(duration).as_bytes());
    }
}

fn text_field(out: &mut Vec<u8>, name: &str, value: &Text) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    value.write_json(out);
}

/// An entry as it was read. Its fields stay as they stand in the line.
#[derive(Debug)]
pub struct StoredEntry<'a>([Option<&'a [u8]>; FIELDS.len()]);

/// The fields in the order in which they are written.
const FIELDS: [&str; 13] = [
    "entry_id",
    "timestamp",
    "previous_hash",
    "entry_hash",
    "task_id",
    "from_phase",
    "to_phase",
    "evidence_artifacts",
    "evidence_validated",
    "persona_hash",
    "agent_type",
    "duration_ms",
    "persona_seal",
];

/// The positions in [`FIELDS`] of what is hashed after the first three.
const HASHED_CORE: std::ops::Range<usize> = 4..9;
/// The positions in [`FIELDS`] of what is hashed if it is there.
const HASHED_DETAILS: std::ops::Range<usize> = 10..12;

impl<'a> StoredEntry<'a> {
    /// Reads a line; `None` if it is not JSON. JSON that is no entry is read as one that has no fields.
    #[must_use]
    pub fn from_line(line: &'a [u8]) -> Option<Self> {
        json::fields(line, FIELDS).or_else(|| json::is_value(line).then_some([None; FIELDS.len()])).map(Self)
    }

    /// The entry's id, to name it.
    #[must_use]
    pub fn id(&self) -> Option<Text> {
        self.0[0].and_then(json::text)
    }

    /// When it was appended.
    #[must_use]
    pub fn timestamp(&self) -> Option<Text> {
        self.0[1].and_then(json::text)
    }

    /// The hash of the entry before it, as WTF-8.
    #[must_use]
    pub fn previous_hash(&self) -> Option<Cow<'a, [u8]>> {
        self.0[2].and_then(json::string)
    }

    /// Its own hash, as WTF-8.
    #[must_use]
    pub fn entry_hash(&self) -> Option<Cow<'a, [u8]>> {
        self.0[3].and_then(json::string)
    }

    /// The task, as WTF-8.
    #[must_use]
    pub fn task(&self) -> Option<Cow<'a, [u8]>> {
        self.0[4].and_then(json::string)
    }

    /// The phase that was entered.
    #[must_use]
    pub fn to_phase(&self) -> Option<Text> {
        self.0[6].and_then(json::text)
    }

    /// Whether the entry's hashes are those of its content.
    #[must_use]
    pub fn is_authentic(&self) -> bool {
        let Some(entry_hash) = self.entry_hash() else { return false };
        self.recomputed_hash().is_some_and(|hash| hash.as_bytes() == &*entry_hash) && self.has_right_seal()
    }

    fn has_right_seal(&self) -> bool {
        let (hash, persona, seal) = (self.0[3], self.0[9], self.0[12]);
        let Some(seal) = seal else { return true };
        let text = |value: Option<&[u8]>| value.and_then(json::text);
        match (text(hash), text(persona), json::string(seal)) {
            (Some(hash), Some(persona), Some(seal)) => *seal == *persona_seal(&hash, &persona).as_bytes(),
            _ => false,
        }
    }

    /// The hash of the content; `None` if a field is missing, or is of a type that is never written.
    fn recomputed_hash(&self) -> Option<String> {
        let mut out = Vec::with_capacity(512);
        for position in (0..3).chain(HASHED_CORE).chain(HASHED_DETAILS) {
            let value = match self.0[position] {
                Some(value) => value,
                None if HASHED_DETAILS.contains(&position) => continue,
                None => return None,
            };
            out.extend_from_slice(if position == 0 { b"{\"" } else { b",\"" });
            out.extend_from_slice(FIELDS[position].as_bytes());
            out.extend_from_slice(b"\":");
            match FIELDS[position] {
                "from_phase" if value == b"null" => out.extend_from_slice(value),
                "evidence_artifacts" => write_list(value, &mut out)?,
                "evidence_validated" => out.extend_from_slice(boolean(value)?),
                "duration_ms" => write_number(value, &mut out)?,
                _ => write_string(value, &mut out)?,
            }
        }
        out.push(b'}');
        Some(hex_digest(&out))
    }
}

/// The entry in a line, if it is one of this task.
pub(super) fn of_task<'a>(line: &'a [u8], task: &Text) -> Option<StoredEntry<'a>> {
    StoredEntry::from_line(line).filter(|entry| entry.task().is_some_and(|id| *id == *task.as_wtf8()))
}

/// Writes a string as `JSON.stringify` would. Without an escape it is written so already.
fn write_string(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if value.first() != Some(&b'"') {
        return None;
    }
    if value.contains(&b'\\') {
        json::text(value)?.write_json(out);
    } else {
        out.extend_from_slice(value);
    }
    Some(())
}

fn write_list(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.push(b'[');
    for (position, element) in json::elements(value)?.into_iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        write_string(element, out)?;
    }
    out.push(b']');
    Some(())
}

fn boolean(value: &[u8]) -> Option<&[u8]> {
    (value == b"true" || value == b"false").then_some(value)
}

fn write_number(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let number: f64 = serde_json::from_slice(value).ok()?;
    out.extend_from_slice(ryu_js::Buffer::new().format(number).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(transition: &Transition) -> String {
        let mut out = Vec::new();
        write_entry(&mut out, transition, "id-1", "2026-01-01T00:00:00.000Z", GENESIS);
        String::from_utf8(out).unwrap()
    }

    fn transition() -> Transition {
        Transition {
            task_id: "T".into(),
            to_phase: "PLAN".into(),
            evidence_artifacts: vec!["b".into(), "a".into()],
            duration_ms: Some(1e21),
            persona_hash: Some("p".into()),
            ..Transition::default()
        }
    }

    #[test]
    fn an_entry_has_its_keys_in_order() {
        let line = line(&transition());
        let hash = &line.split("\"entry_hash\":\"").nth(1).unwrap()[..64];
        let expected = format!(
            "{{\"entry_id\":\"id-1\",\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"previous_hash\":\"genesis\",\
             \"entry_hash\":\"{hash}\",\"task_id\":\"T\",\"from_phase\":null,\"to_phase\":\"PLAN\",\
             \"evidence_artifacts\":[\"b\",\"a\"],\"evidence_validated\":false,\"persona_hash\":\"p\",\
             \"duration_ms\":1e+21,\"persona_seal\":\""
        );
        assert!(line.starts_with(&expected), "{line}");
    }

    #[test]
    fn an_entry_is_authentic_until_a_field_is_changed() {
        let line = line(&transition());
        let authentic = |line: &str| StoredEntry::from_line(line.as_bytes()).unwrap().is_authentic();
        assert!(authentic(&line));
        for (from, to) in [
            ("\"T\"", "\"U\""),
            ("null", "\"SPEC\""),
            ("\"PLAN\"", "\"SPEC\""),
            ("[\"b\",\"a\"]", "[\"a\",\"b\"]"),
            ("false", "true"),
            ("false", "\"false\""),
            ("1e+21", "2"),
            ("\"persona_hash\":\"p\"", "\"persona_hash\":\"q\""),
            ("\"persona_hash\":\"p\",", ""),
            (".000Z", ".001Z"),
        ] {
            assert!(line.contains(from));
            assert!(!authentic(&line.replacen(from, to, 1)), "{from} changed to {to}");
        }
    }

    #[test]
    fn an_entry_from_before_the_seal_is_authentic() {
        let line = line(&transition());
        let seal = line.find(",\"persona_seal\"").unwrap();
        let old = format!("{}}}", &line[..seal]);
        assert!(StoredEntry::from_line(old.as_bytes()).unwrap().is_authentic());
    }

    #[test]
    fn what_json_forbids_is_not_read() {
        let transition = Transition { agent_type: Some("x\u{1}y".into()), ..transition() };
        let line = line(&transition);
        assert!(StoredEntry::from_line(line.as_bytes()).unwrap().is_authentic());
        for (from, to) in [("\\u0001", "\u{1}"), ("\"p\"", "\"\tp\""), ("\"T\"", "\"\u{1f}\"")] {
            assert!(StoredEntry::from_line(line.replacen(from, to, 1).as_bytes()).is_none(), "{to:?}");
        }
    }

    #[test]
    fn json_that_is_no_entry_has_no_fields() {
        assert!(StoredEntry::from_line(b"[1]").unwrap().entry_hash().is_none());
        assert!(StoredEntry::from_line(b"{\"entry_id\":").is_none());
    }
}

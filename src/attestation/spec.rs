//! A prompt specification, its canonical form and its hash.

use crate::digest::hex_digest;
use crate::text::Text;

/// A string that may be absent or null: both are possible in a JavaScript object, and they hash differently.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Optional {
    /// The key is missing, or its value is undefined.
    #[default]
    Absent,
    /// The value is null.
    Null,
    /// The value is a string.
    Text(Text),
}

impl Optional {
    /// The string, if there is one.
    #[must_use]
    pub fn text(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Null => None,
        }
    }

    /// The string, if there is one that is not empty.
    #[must_use]
    pub fn non_empty(&self) -> Option<&Text> {
        self.text().filter(|text| !text.is_empty())
    }
}

/// What an agent is asked to do in one phase of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PromptSpec {
    /// The phase.
    pub phase: Text,
    /// The task.
    pub task_id: Text,
    /// Requirements; their order doesn't matter.
    pub requirements: Vec<Text>,
    /// Quality gates; their order doesn't matter.
    pub quality_gates: Vec<Text>,
    /// Artifacts; their order doesn't matter.
    pub artifacts: Vec<Text>,
    /// The context.
    pub context_summary: Optional,
    /// A hash of the persona that the agent takes on.
    pub persona_hash: Optional,
    /// The persona in words; not part of the hash.
    pub persona_summary: Optional,
    /// The kind of agent.
    pub agent_type: Optional,
    /// The model and its version.
    pub model_version: Optional,
}

impl PromptSpec {
    /// The SHA-256 of the canonical form, in lower-case hexadecimal digits.
    ///
    /// The canonical form is what JavaScript's `JSON.stringify` writes for an object with the hashed keys in a fixed
    /// order and the three lists sorted by UTF-16 unit. Absent keys are left out, null is written as null.
    #[must_use]
    pub fn hash(&self) -> String {
        hex_digest(&self.canonical_json())
    }

    /// The canonical form that is hashed.
    #[must_use]
    pub fn canonical_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(512);
        json.push(b'{');
        write_text(&mut json, "phase", &self.phase);
        json.push(b',');
        write_text(&mut json, "taskId", &self.task_id);
        write_list(&mut json, "requirements", &self.requirements);
        write_list(&mut json, "qualityGates", &self.quality_gates);
        write_list(&mut json, "artifacts", &self.artifacts);
        write_optional(&mut json, "contextSummary", &self.context_summary);
        write_optional(&mut json, "personaHash", &self.persona_hash);
        write_optional(&mut json, "agentType", &self.agent_type);
        write_optional(&mut json, "modelVersion", &self.model_version);
        json.push(b'}');
        json
    }
}

fn write_key(json: &mut Vec<u8>, key: &str) {
    json.push(b'"');
    json.extend_from_slice(key.as_bytes());
    json.extend_from_slice(b"\":");
}

fn write_text(json: &mut Vec<u8>, key: &str, text: &Text) {
    write_key(json, key);
    text.write_json(json);
}

fn write_optional(json: &mut Vec<u8>, key: &str, value: &Optional) {
    match value {
        Optional::Absent => {}
        Optional::Null => {
            json.push(b',');
            write_key(json, key);
            json.extend_from_slice(b"null");
        }
        Optional::Text(text) => {
            json.push(b',');
            write_text(json, key, text);
        }
    }
}

fn write_list(json: &mut Vec<u8>, key: &str, list: &[Text]) {
    let mut sorted: Vec<&Text> = list.iter().collect();
    sorted.sort_by(|a, b| a.cmp_utf16(b));
    json.push(b',');
    write_key(json, key);
    json.push(b'[');
    for (position, text) in sorted.into_iter().enumerate() {
        if position > 0 {
            json.push(b',');
        }
        text.write_json(json);
    }
    json.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PromptSpec {
        PromptSpec {
            phase: "SPEC".into(),
            task_id: "T".into(),
            requirements: vec!["b".into(), "a".into()],
            context_summary: Optional::Text("c".into()),
            ..PromptSpec::default()
        }
    }

    #[test]
    fn the_canonical_form_is_that_of_json_stringify() {
        let expected = r#"{"phase":"SPEC","taskId":"T","requirements":["a","b"],"qualityGates":[],"artifacts":[],"contextSummary":"c"}"#;
        assert_eq!(String::from_utf8(spec().canonical_json()).unwrap(), expected);
    }

    #[test]
    fn null_is_written_and_absent_is_not() {
        let spec =
            PromptSpec { persona_hash: Optional::Null, agent_type: Optional::Text("".into()), ..spec() };
        let json = String::from_utf8(spec.canonical_json()).unwrap();
        assert!(json.ends_with(r#""contextSummary":"c","personaHash":null,"agentType":""}"#), "{json}");
    }

    #[test]
    fn lists_are_sorted_by_utf16_unit() {
        let spec = PromptSpec { artifacts: vec!["\u{FFEE}".into(), "😀".into(), "a".into()], ..spec() };
        let json = String::from_utf8(spec.canonical_json()).unwrap();
        assert!(json.contains("\"artifacts\":[\"a\",\"😀\",\"\u{FFEE}\"]"), "{json}");
    }
}

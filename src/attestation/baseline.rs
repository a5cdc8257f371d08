//! One entry of the baselines file.

use serde::Deserialize;

use crate::journal::lenient;
use crate::text::Text;

/// What a prompt is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The hash of the prompt.
    pub hash: Text,
    /// Counts the resets, from 1.
    pub version: u64,
    /// When it was set, as ISO 8601.
    pub updated_at: Text,
    /// The persona's hash at the first attestation; none after a reset.
    pub persona_hash: Option<Text>,
    /// Who reset it.
    pub updated_by: Option<Text>,
    /// Why it was reset.
    pub reason: Option<Text>,
    /// A name for the version.
    pub version_tag: Option<Text>,
}

/// The key of a task and phase: `taskId:phase`, to be split at the last colon.
#[must_use]
pub fn key(task: &Text, phase: &Text) -> Text {
    let mut wtf8 = Vec::with_capacity(task.as_wtf8().len() + 1 + phase.as_wtf8().len());
    wtf8.extend_from_slice(task.as_wtf8());
    wtf8.push(b':');
    wtf8.extend_from_slice(phase.as_wtf8());
    // The colon keeps the halves of a surrogate pair from meeting, so the concatenation is WTF-8 again.
    Text::from_wtf8(wtf8).unwrap_or_default()
}

/// The task and the phase of a key; `None` if it is none.
#[must_use]
pub fn parts(key: &Text) -> Option<(Text, Text)> {
    let wtf8 = key.as_wtf8();
    let colon = memchr::memrchr(b':', wtf8)?;
    Some((Text::from_wtf8(wtf8[..colon].to_vec())?, Text::from_wtf8(wtf8[colon + 1..].to_vec())?))
}

/// Whether a phase can be part of a key: with a colon in it, the key could not be split again.
#[must_use]
pub fn is_valid_phase(phase: &Text) -> bool {
    !phase.as_wtf8().contains(&b':')
}

impl Baseline {
    /// Reads the value of an entry: an object or, in older files, the bare hash. An entry without a hash, or with an
    /// empty one, counts as none.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Option<Self> {
        if json.first() == Some(&b'"') {
            let hash: Text = serde_json::from_slice(json).ok()?;
            return Self::of(StoredBaseline { hash: Some(hash), ..StoredBaseline::default() });
        }
        Self::of(serde_json::from_slice(json).ok()?)
    }

    fn of(stored: StoredBaseline) -> Option<Self> {
        let hash = stored.hash.filter(|hash| !hash.is_empty())?;
        Some(Self {
            hash,
            version: stored.version.filter(|version| *version > 0).unwrap_or(1),
            updated_at: stored.updated_at.unwrap_or_default(),
            persona_hash: stored.persona_hash,
            updated_by: stored.updated_by,
            reason: stored.reason,
            version_tag: stored.version_tag,
        })
    }

    /// Appends the entry as it stands in the file: `"key":{…}`.
    pub fn write_entry(&self, key: &Text, out: &mut Vec<u8>) {
        key.write_json(out);
        out.extend_from_slice(b":{");
        self.write_fields(out);
        out.push(b'}');
    }

    /// Appends the record of a reset to this baseline, without a line end.
    pub fn write_update(&self, task: &Text, phase: &Text, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"taskId\":");
        task.write_json(out);
        out.extend_from_slice(b",\"phase\":");
        phase.write_json(out);
        out.push(b',');
        self.write_fields(out);
        out.push(b'}');
    }

    /// Appends the fields, without braces, in the order in which they stand in files.
    pub fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"hash\":");
        self.hash.write_json(out);
        out.extend_from_slice(format!(",\"version\":{},\"updatedAt\":", self.version).as_bytes());
        self.updated_at.write_json(out);
        let optional = [
            ("personaHash", &self.persona_hash),
            ("updatedBy", &self.updated_by),
            ("reason", &self.reason),
            ("versionTag", &self.version_tag),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                out.extend_from_slice(format!(",\"{name}\":").as_bytes());
                value.write_json(out);
            }
        }
    }
}

/// The fields as they may be on disk. A field of a wrong type counts as absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredBaseline {
    #[serde(default, deserialize_with = "lenient")]
    hash: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    version: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    updated_at: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    persona_hash: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    updated_by: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    reason: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    version_tag: Option<Text>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let baseline = Baseline {
            hash: "ab".into(),
            version: 3,
            updated_at: "2026-01-01T00:00:00.000Z".into(),
            persona_hash: None,
            updated_by: Some(Text::from_utf16(&[0xD83D])),
            reason: Some("why \"not\"".into()),
            version_tag: None,
        };
        let mut entry = Vec::new();
        baseline.write_entry(&key(&"T".into(), &"SPEC".into()), &mut entry);
        let value = entry.strip_prefix(b"\"T:SPEC\":").unwrap();
        assert_eq!(Baseline::from_json(value), Some(baseline));
    }

    #[test]
    fn a_bare_hash_is_version_1() {
        let baseline = Baseline::from_json(b"\"abc\"").unwrap();
        assert_eq!((baseline.hash, baseline.version), ("abc".into(), 1));
    }

    #[test]
    fn an_entry_without_a_usable_hash_counts_as_none() {
        for value in ["\"\"", "{}", "{\"hash\":\"\"}", "{\"hash\":7}", "null", "[]", "12"] {
            assert_eq!(Baseline::from_json(value.as_bytes()), None, "{value}");
        }
    }

    #[test]
    fn a_field_of_a_wrong_type_counts_as_absent() {
        let baseline = Baseline::from_json(br#"{"hash":"a","version":"2","reason":null,"more":1}"#).unwrap();
        assert_eq!((baseline.version, baseline.reason), (1, None));
    }
}

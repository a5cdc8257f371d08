//! Reads baselines files that are whole, damaged at their end, or anything at all.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::Arbitrary;
use driftlock::attestation::baseline::{Baseline, key};
use driftlock::attestation::store::Prepared;
use driftlock::attestation::{AttestationStore, FileAttestations, PromptSpec, salvage};
use driftlock::clock::ManualClock;
use driftlock::durability::Durability;
use driftlock::json;
use driftlock::log;
use driftlock::patience::Patience;
use driftlock::text::Text;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Torn { entries: Vec<Entry>, keep: u16, tail: Vec<u8> },
}

#[derive(Arbitrary, Debug)]
struct Entry {
    task: Vec<u16>,
    phase: Vec<u16>,
    hash: Vec<u16>,
    version: u64,
    reason: Option<Vec<u16>>,
    persona: Option<Vec<u16>>,
}

impl Entry {
    fn key(&self) -> Text {
        key(&Text::from_utf16(&self.task), &Text::from_utf16(&self.phase))
    }

    fn baseline(&self) -> Baseline {
        let mut hash = self.hash.clone();
        hash.push(u16::from(b'0'));
        Baseline {
            hash: Text::from_utf16(&hash),
            version: self.version.max(1),
            updated_at: "2026-01-01T00:00:00.000Z".into(),
            persona_hash: self.persona.as_deref().map(Text::from_utf16),
            updated_by: None,
            reason: self.reason.as_deref().map(Text::from_utf16),
            version_tag: None,
        }
    }
}

/// An object's entries in the order of the file, as serde_json reads them.
struct Pairs(Vec<(Text, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

fn any_bytes(content: &[u8]) {
    let saved = salvage::whole_entries(content);
    let _ = json::further_entries(content, |entry| drop(json::text(&content[entry.key])));
    let mut seen = Vec::new();
    let scanned = json::object(content, |entry| {
        seen.push((json::text(&content[entry.key]), content[entry.value].to_vec()));
    });
    let Ok(Pairs(pairs)) = serde_json::from_slice(content) else { return };
    // What serde_json can read, we can, and see the same in it.
    let extent = scanned.expect("valid JSON is scanned");
    assert_eq!(content[extent.closing_brace], b'}');
    assert!(extent.entries_end <= extent.closing_brace);
    let expected: Vec<_> =
        pairs.iter().map(|(key, value)| (Some(key.clone()), value.get().as_bytes().to_vec())).collect();
    assert_eq!(seen, expected);

    let mut baselines = BTreeMap::new();
    for (key, value) in &pairs {
        let Some(baseline) = Baseline::from_json(value.get().as_bytes()) else { continue };
        let is_bare = value.get().starts_with('"');
        let is_hash = baseline.hash.as_wtf8().iter().all(u8::is_ascii_hexdigit);
        if key.as_wtf8().contains(&b':') && (!is_bare || is_hash) {
            baselines.insert(key.clone(), baseline);
        }
    }
    assert_eq!(saved, baselines);
}

fn torn(entries: &[Entry], keep: u16, tail: &[u8]) {
    let mut content = b"{".to_vec();
    let mut ends = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        content.extend_from_slice(if position > 0 { b",\n" } else { b"\n" });
        entry.baseline().write_entry(&entry.key(), &mut content);
        ends.push(content.len());
    }
    content.truncate(usize::from(keep));
    let mut expected = BTreeMap::new();
    for (entry, _) in entries.iter().zip(ends).filter(|(_, end)| *end <= content.len()) {
        expected.insert(entry.key(), entry.baseline());
    }
    content.extend_from_slice(tail);
    let saved = salvage::whole_entries(&content);
    // What follows may hold entries of its own, with the same keys too, or make a torn entry whole in another way.
    let keys: BTreeSet<_> = entries.iter().map(Entry::key).collect();
    let may_differ = tail.contains(&b'"') || keys.len() < entries.len();
    for (key, baseline) in &expected {
        let found = saved.get(key).unwrap_or_else(|| panic!("{key:?} is lost"));
        assert!(found == baseline || may_differ, "{found:?} is not {baseline:?}");
    }
    mend(&content, &saved);
}

/// An attestation on a damaged file mends it and loses nothing that was saved.
fn mend(content: &[u8], saved: &salvage::Baselines) {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let state = folder.path().join("state/process");
    let _ = std::fs::remove_dir_all(&state);
    std::fs::create_dir_all(&state).expect("made");
    let file = state.join("prompt_baselines.json");
    std::fs::write(&file, content).expect("written");
    let was_whole = std::str::from_utf8(content).is_ok() && json::object(content, |_| ()).is_ok();
    let store = FileAttestations::new(folder.path(), Arc::new(ManualClock::new(0)));
    let prompt =
        Prepared::new(PromptSpec { task_id: "T".into(), phase: "PLAN".into(), ..PromptSpec::default() });
    let patience = Patience::lasting(Duration::from_secs(10));
    let answer = store.attest(&[&prompt], Durability::Process, patience).expect("answered").remove(0);
    if was_whole {
        return;
    }
    assert!(answer.error.is_none(), "{:?}", answer.error);
    let mended = std::fs::read(&file).expect("read");
    let Pairs(pairs) = serde_json::from_slice(&mended).expect("mended");
    let pairs: BTreeMap<_, _> = pairs.into_iter().collect();
    for (key, baseline) in saved {
        let value = pairs.get(key).unwrap_or_else(|| panic!("{key:?} is lost"));
        assert_eq!(Baseline::from_json(value.get().as_bytes()).as_ref(), Some(baseline));
    }
}

fuzz_target!(|input: Input| {
    log::set_level(None);
    match input {
        Input::Bytes(content) => any_bytes(&content),
        Input::Torn { entries, keep, tail } => torn(&entries, keep, &tail),
    }
});

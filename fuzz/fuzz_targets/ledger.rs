//! Writes ledgers and checks them: as they are, changed in one place, and of any bytes.

#![no_main]

use std::fs::File;
use std::io::Write;

use arbitrary::Arbitrary;
use driftlock::journal::reader::LONGEST_LINE;
use driftlock::ledger::entry::{GENESIS, StoredEntry, Transition, write_entry};
use driftlock::ledger::verify::{Verification, verify};
use driftlock::text::Text;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(Vec<u8>),
    Written { steps: Vec<Step>, change: Option<Change> },
}

#[derive(Arbitrary, Debug)]
struct Step {
    task: Vec<u16>,
    from: Option<Vec<u16>>,
    to: Vec<u16>,
    evidence: Vec<Vec<u16>>,
    validated: bool,
    agent: Option<Vec<u16>>,
    duration: Option<f64>,
    persona: Option<Vec<u16>>,
}

#[derive(Arbitrary, Debug)]
struct Change {
    at: u16,
    length: u8,
    with: Vec<u8>,
}

impl Step {
    fn transition(&self) -> Transition {
        Transition {
            task_id: Text::from_utf16(&self.task),
            from_phase: self.from.as_deref().map(Text::from_utf16),
            to_phase: Text::from_utf16(&self.to),
            evidence_artifacts: self.evidence.iter().map(|string| Text::from_utf16(string)).collect(),
            evidence_validated: self.validated,
            agent_type: self.agent.as_deref().map(Text::from_utf16),
            duration_ms: self.duration.filter(|duration| duration.is_finite()),
            persona_hash: self.persona.as_deref().map(Text::from_utf16),
        }
    }
}

fn check(content: &[u8]) -> Verification {
    let mut file: File = tempfile::tempfile().expect("a file");
    file.write_all(content).expect("written");
    verify(&file, content.len() as u64).expect("read")
}

/// The lines as `JSON.parse` would see them; none where one isn't JSON. A lone surrogate, which serde_json refuses in
/// a `Value`, is masked. A trailing seal may be taken off unseen: entries of before have none.
fn values(content: &[u8]) -> Option<Vec<Value>> {
    let text = String::from_utf8_lossy(content);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| {
            let mut value: Value =
                serde_json::from_str(&line.replace("\\ud", "~ud").replace("\\uD", "~uD")).ok()?;
            value.as_object_mut()?.remove("persona_seal");
            Some(value)
        })
        .collect()
}

fuzz_target!(|input: Input| match input {
    Input::Bytes(content) => {
        check(&content);
        for line in content.split(|byte| *byte == b'\n') {
            if let Some(entry) = StoredEntry::from_line(line) {
                let _ = entry.is_authentic();
            }
        }
    }
    Input::Written { steps, change } => {
        let mut content = Vec::new();
        let mut previous = GENESIS.to_owned();
        for (number, step) in steps.iter().enumerate() {
            let start = content.len();
            let id = format!("id-{number}");
            previous =
                write_entry(&mut content, &step.transition(), &id, "2026-01-01T00:00:00.000Z", &previous);
            let entry = StoredEntry::from_line(&content[start..content.len() - 1]).expect("an entry");
            assert!(entry.is_authentic(), "{}", String::from_utf8_lossy(&content[start..]));
        }
        // A longer line, which takes 64 MiB outside of here, is no entry.
        if content.split(|byte| *byte == b'\n').any(|line| line.len() > LONGEST_LINE) {
            return;
        }
        let whole = check(&content);
        assert!(whole.is_valid(), "{whole:?}");
        assert_eq!(whole.entries_checked, steps.len() as u64);

        let Some(change) = change else { return };
        let mut changed = content.clone();
        let from = usize::from(change.at).min(changed.len());
        let to = (from + usize::from(change.length)).min(changed.len());
        changed.splice(from..to, change.with.iter().copied());
        let found = check(&changed);
        let (before, after) = (values(&content), values(&changed));
        // Entries cut off at the end are what a chain can't show.
        let is_same = match (&before, &after) {
            (Some(before), Some(after)) => before.starts_with(after),
            _ => false,
        };
        assert!(
            is_same || !found.is_valid() || has_persona_without_seal(&changed),
            "unseen: {}",
            String::from_utf8_lossy(&changed)
        );
    }
});

/// Whoever takes off the seal can change the persona.
fn has_persona_without_seal(content: &[u8]) -> bool {
    String::from_utf8_lossy(content).lines().any(|line| {
        serde_json::from_str::<Value>(&line.replace("\\ud", "~ud").replace("\\uD", "~uD"))
            .is_ok_and(|value| value.get("persona_seal").is_none())
    })
}

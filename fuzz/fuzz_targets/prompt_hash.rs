//! Compares the canonical form of a prompt with Node's `JSON.stringify`, over a pipe, and with another way to write
//! it in Rust. `DRIFTLOCK_FUZZ_NODE` names another `node`; without one only the second comparison is made.

#![no_main]

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use arbitrary::Arbitrary;
use driftlock::attestation::PromptSpec;
use driftlock::attestation::spec::Optional;
use driftlock::text::Text;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Spec {
    phase: Vec<Unit>,
    task: Vec<Unit>,
    lists: [Vec<Vec<Unit>>; 3],
    optional: [Option<Option<Vec<Unit>>>; 4],
}

/// A unit of a string; the odd ones are made common.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Unit {
    Any(u16),
    Byte(u8),
    High(u8),
    Low(u8),
}

impl Unit {
    fn get(self) -> u16 {
        match self {
            Self::Any(unit) => unit,
            Self::Byte(byte) => byte.into(),
            Self::High(byte) => 0xD800 + u16::from(byte),
            Self::Low(byte) => 0xDC00 + u16::from(byte),
        }
    }
}

fn units(string: &[Unit]) -> Vec<u16> {
    string.iter().map(|unit| unit.get()).collect()
}

fn text(string: &[Unit]) -> Text {
    Text::from_utf16(&units(string))
}

const KEYS: [&str; 9] = [
    "phase",
    "taskId",
    "requirements",
    "qualityGates",
    "artifacts",
    "contextSummary",
    "personaHash",
    "agentType",
    "modelVersion",
];

impl Spec {
    fn prompt(&self) -> PromptSpec {
        let list = |position: usize| self.lists[position].iter().map(|string| text(string)).collect();
        let optional = |position: usize| match &self.optional[position] {
            None => Optional::Absent,
            Some(None) => Optional::Null,
            Some(Some(string)) => Optional::Text(text(string)),
        };
        PromptSpec {
            phase: text(&self.phase),
            task_id: text(&self.task),
            requirements: list(0),
            quality_gates: list(1),
            artifacts: list(2),
            context_summary: optional(0),
            persona_hash: optional(1),
            persona_summary: Optional::Absent,
            agent_type: optional(2),
            model_version: optional(3),
        }
    }

    /// The canonical form once more, from units and without a thought for speed.
    fn naive(&self) -> String {
        let mut fields = vec![
            format!("\"phase\":{}", naive_string(&units(&self.phase))),
            format!("\"taskId\":{}", naive_string(&units(&self.task))),
        ];
        for (key, list) in KEYS[2..5].iter().zip(&self.lists) {
            let mut strings: Vec<Vec<u16>> = list.iter().map(|string| units(string)).collect();
            strings.sort();
            let strings: Vec<String> = strings.iter().map(|string| naive_string(string)).collect();
            fields.push(format!("\"{key}\":[{}]", strings.join(",")));
        }
        for (key, value) in KEYS[5..].iter().zip(&self.optional) {
            match value {
                None => {}
                Some(None) => fields.push(format!("\"{key}\":null")),
                Some(Some(string)) => fields.push(format!("\"{key}\":{}", naive_string(&units(string)))),
            }
        }
        format!("{{{}}}", fields.join(","))
    }

    /// As Node reads it: for each string its length and its units; for each list its length; 0xFFFF and 0xFFFE are
    /// absent and null.
    fn frame(&self) -> Vec<u8> {
        let mut words: Vec<u16> = Vec::new();
        let string = |words: &mut Vec<u16>, string: &[Unit]| {
            words.push(u16::try_from(string.len()).expect("short"));
            words.extend(units(string));
        };
        string(&mut words, &self.phase);
        string(&mut words, &self.task);
        for list in &self.lists {
            words.push(u16::try_from(list.len()).expect("short"));
            list.iter().for_each(|element| string(&mut words, element));
        }
        for value in &self.optional {
            match value {
                None => words.push(0xFFFF),
                Some(None) => words.push(0xFFFE),
                Some(Some(value)) => string(&mut words, value),
            }
        }
        let mut frame = u32::try_from(words.len() * 2).expect("short").to_le_bytes().to_vec();
        frame.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        frame
    }
}

fn naive_string(units: &[u16]) -> String {
    let mut out = String::from("\"");
    for c in char::decode_utf16(units.iter().copied()) {
        match c {
            Ok('"') => out.push_str("\\\""),
            Ok('\\') => out.push_str("\\\\"),
            Ok('\u{8}') => out.push_str("\\b"),
            Ok('\u{9}') => out.push_str("\\t"),
            Ok('\u{a}') => out.push_str("\\n"),
            Ok('\u{c}') => out.push_str("\\f"),
            Ok('\u{d}') => out.push_str("\\r"),
            Ok(c) if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            Ok(c) => out.push(c),
            Err(lone) => out.push_str(&format!("\\u{:04x}", lone.unpaired_surrogate())),
        }
    }
    out.push('"');
    out
}

/// Reads frames and answers each with the JSON of the object that it describes.
const NODE: &str = r#"
const { readSync, writeSync } = require('node:fs')
const fill = (length) => {
  const bytes = Buffer.alloc(length)
  for (let at = 0; at < length; ) {
    const read = readSync(0, bytes, at, length - at, null)
    if (read === 0) process.exit(0)
    at += read
  }
  return bytes
}
for (;;) {
  const bytes = fill(fill(4).readUInt32LE())
  let at = 0
  const word = () => bytes.readUInt16LE((at += 2) - 2)
  const string = (length = word()) => Array.from({ length }, () => String.fromCharCode(word())).join('')
  const list = () => Array.from({ length: word() }, () => string()).sort()
  const optional = () => {
    const length = word()
    return length === 0xffff ? undefined : length === 0xfffe ? null : string(length)
  }
  const json = Buffer.from(JSON.stringify({
    phase: string(), taskId: string(), requirements: list(), qualityGates: list(), artifacts: list(),
    contextSummary: optional(), personaHash: optional(), agentType: optional(), modelVersion: optional(),
  }))
  const answer = Buffer.alloc(4 + json.length)
  answer.writeUInt32LE(json.length)
  json.copy(answer, 4)
  for (let at = 0; at < answer.length; ) at += writeSync(1, answer, at)
}
"#;

fn ask_node(node: &mut Child, frame: &[u8]) -> Vec<u8> {
    let (stdin, stdout) = (node.stdin.as_mut().expect("a pipe"), node.stdout.as_mut().expect("a pipe"));
    stdin.write_all(frame).expect("asked");
    let mut length = [0; 4];
    stdout.read_exact(&mut length).expect("answered");
    let mut json = vec![0; u32::from_le_bytes(length) as usize];
    stdout.read_exact(&mut json).expect("answered");
    json
}

fuzz_target!(|spec: Spec| {
    static CHILD: OnceLock<Option<Mutex<Child>>> = OnceLock::new();
    let child = CHILD.get_or_init(|| {
        let program = std::env::var("DRIFTLOCK_FUZZ_NODE").unwrap_or_else(|_| "node".to_owned());
        let child =
            Command::new(program).args(["-e", NODE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        if child.is_err() {
            eprintln!("no node: compared with Rust only");
        }
        child.ok().map(Mutex::new)
    });
    let json = spec.prompt().canonical_json();
    assert_eq!(String::from_utf8_lossy(&json), spec.naive());
    if let Some(child) = child {
        let expected = ask_node(&mut child.lock().expect("one thread"), &spec.frame());
        assert_eq!(String::from_utf8_lossy(&json), String::from_utf8_lossy(&expected));
    }
});

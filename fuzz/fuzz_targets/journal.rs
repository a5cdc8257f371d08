//! Follows and repairs a journal that others write to, cut and replace, and compares with a model that reads all of
//! it each time.
//!
//! The crate's sizes of a piece and of the longest line are small under `cfg(fuzzing)`, so that lines across pieces
//! and lines that are too long are common.

#![no_main]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

use arbitrary::Arbitrary;
use driftlock::journal::reader::{CHUNK, LONGEST_LINE, for_each_line};
use driftlock::journal::{Journal, Summary, Tail};
use driftlock::log;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

#[derive(Arbitrary, Debug)]
enum Step {
    /// Another program appends, whatever that is.
    Append(Vec<u8>),
    /// So many bytes are cut off.
    Cut(u8),
    /// Another file takes the place of this one.
    Replace(Vec<u8>),
    Remove,
    /// We append whole lines.
    Journal(Vec<u8>),
    /// Long lines, which would take the fuzzer long to come up with.
    AppendMany(u8, u16),
}

#[derive(Default)]
struct Lines(Vec<(u64, Vec<u8>)>);

impl Summary for Lines {
    fn add(&mut self, offset: u64, line: &[u8]) {
        self.0.push((offset, line.to_vec()));
    }
}

/// What a reader that starts anew at each look would see.
#[derive(Default)]
struct Model {
    /// Where a last line without a line end was taken for whole: what comes after it is another line.
    ends: Vec<usize>,
}

impl Model {
    fn lines(&mut self, content: &[u8]) -> Vec<(u64, Vec<u8>)> {
        self.ends.retain(|end| *end <= content.len());
        let mut lines = Vec::new();
        let mut start = 0;
        for at in 0..=content.len() {
            if self.ends.contains(&at) && at > start {
                lines.push((start as u64, content[start..at].to_vec()));
                start = at;
            }
            if content.get(at) == Some(&b'\n') {
                lines.push((start as u64, content[start..at].to_vec()));
                start = at + 1;
            }
        }
        let rest = &content[start..];
        if is_whole(rest) {
            lines.push((start as u64, rest.to_vec()));
            self.ends.push(content.len());
        }
        lines.retain(|(_, line)| !line.trim_ascii().is_empty());
        lines
    }
}

/// Whether what has no line end is a line all the same.
fn is_whole(line: &[u8]) -> bool {
    line.len() <= LONGEST_LINE
        && std::str::from_utf8(line).is_ok_and(|line| serde_json::from_str::<IgnoredAny>(line).is_ok())
}

/// A line of up to `LONGEST_LINE` bytes is given as it is; of one that doesn't fit a piece more, only the beginning.
fn assert_same(seen: &[(u64, Vec<u8>)], expected: &[(u64, Vec<u8>)]) {
    // The beginning of a long line that looks blank is no line.
    let expected: Vec<_> = expected
        .iter()
        .filter(|(offset, line)| line.len() <= LONGEST_LINE || seen.iter().any(|(at, _)| at == offset))
        .collect();
    assert_eq!(seen.len(), expected.len(), "{seen:?} is not {expected:?}");
    for ((offset, line), (expected_offset, whole)) in seen.iter().zip(expected) {
        assert_eq!(offset, expected_offset);
        if whole.len() <= LONGEST_LINE {
            assert_eq!(line, whole);
        } else {
            assert!(whole.starts_with(line) && (line.len() == whole.len() || line.len() <= LONGEST_LINE));
            assert!(line.len() < whole.len() || whole.len() <= LONGEST_LINE + CHUNK);
        }
    }
}

fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_default()
}

/// What the end of a journal must be before an append.
fn repaired(mut content: Vec<u8>) -> Vec<u8> {
    let start = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    if start == content.len() {
        return content;
    }
    if is_whole(&content[start..]) {
        content.push(b'\n');
    } else {
        content.truncate(start);
    }
    content
}

fuzz_target!(|steps: Vec<Step>| {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        log::set_level(None);
        tempfile::tempdir().expect("a folder")
    });
    for entry in std::fs::read_dir(folder.path()).expect("the folder") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let path = folder.path().join("journal.jsonl");
    let mut tail = Tail::<Lines>::new(path.clone());
    let mut model = Model::default();
    let mut journal = Journal::new(path.clone());
    let append = |bytes: &[u8]| {
        let mut file = File::options().append(true).create(true).open(&path).expect("opened");
        file.write_all(bytes).expect("written");
    };
    for step in steps {
        match step {
            Step::Append(bytes) => append(&bytes),
            Step::AppendMany(byte, count) => append(&vec![byte; usize::from(count % 4096)]),
            Step::Cut(bytes) => {
                let size = content(&path).len();
                let left = size.saturating_sub(usize::from(bytes));
                if left < size {
                    File::options()
                        .write(true)
                        .open(&path)
                        .expect("opened")
                        .set_len(left as u64)
                        .expect("cut");
                    model.ends.clear();
                    journal = Journal::new(path.clone());
                }
            }
            Step::Replace(bytes) => {
                let new = folder.path().join("new");
                std::fs::write(&new, &bytes).expect("written");
                std::fs::rename(&new, &path).expect("renamed");
                model.ends.clear();
                journal = Journal::new(path.clone());
            }
            Step::Remove => {
                let _ = std::fs::remove_file(&path);
                model.ends.clear();
                journal = Journal::new(path.clone());
            }
            Step::Journal(mut line) => {
                line.retain(|byte| *byte != b'\n');
                line.push(b'\n');
                let mut expected = repaired(content(&path));
                if expected.len() < content(&path).len() && !model.ends.is_empty() {
                    // A follower that has taken a line for whole that was then cut off can only guess.
                    model.ends.clear();
                    tail = Tail::new(path.clone());
                }
                let at = journal.append(&line).expect("appended");
                assert_eq!(at, expected.len() as u64);
                expected.extend_from_slice(&line);
                assert_eq!(content(&path), expected);
            }
        }
        let content = content(&path);
        let expected = model.lines(&content);
        let (seen, _) = tail.catch_up().expect("followed");
        assert_same(&seen.0, &expected);
        assert_eq!(tail.unread().expect("looked at"), tail_rest(&content, &model));

        if let Ok(file) = File::open(&path) {
            let mut lines = Vec::new();
            let end = for_each_line(&file, 0, content.len() as u64, |offset, line| {
                lines.push((offset, line.to_vec()));
            });
            let after_newline = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            assert_eq!(end.expect("read"), after_newline as u64);
            let expected = Model::default().lines(&content[..after_newline]);
            lines.retain(|(_, line)| !line.trim_ascii().is_empty());
            assert_same(&lines, &expected);
        }
    }
});

/// What a caught-up follower has not read: half a line.
fn tail_rest(content: &[u8], model: &Model) -> u64 {
    let newline = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let end = model.ends.iter().copied().max().unwrap_or(0).max(newline);
    (content.len() - end) as u64
}

//! Counting over appends, rotations, restarts and damage.

#![allow(clippy::float_cmp, reason = "what is counted here is whole")]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::exporter::{Exporter, Start, Store};
use super::series::Counter;
use super::store_totals::STORE_TOTALS;

struct Workspace {
    folder: tempfile::TempDir,
    rotations: usize,
}

impl Workspace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("state/telemetry")).unwrap();
        Self { folder, rotations: 0 }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn counters(&self) -> PathBuf {
        self.root().join("state/telemetry/counters.jsonl")
    }

    fn state(&self) -> PathBuf {
        self.root().join("state/telemetry/.exporter.json")
    }

    fn rotated(&self, number: usize) -> PathBuf {
        self.counters().with_extension(format!("jsonl.{number}"))
    }

    fn open(&self) -> Exporter {
        Exporter::open(self.root(), Start::Beginning).unwrap()
    }

    fn append(&self, text: &str) {
        append(&self.counters(), text);
    }

    fn rotate(&mut self) {
        if std::fs::rename(self.counters(), self.rotated(self.rotations)).is_ok() {
            self.rotations += 1;
        }
    }
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn line(number: u32) -> String {
    format!(
        "{{\"timestamp\":\"{number}\",\"counter\":\"phase_skips_attempted\",\"value\":1,\"metadata\":{{}}}}\n"
    )
}

fn poll(exporter: &mut Exporter) {
    let polled = exporter.poll(Store::Unknown);
    assert!(polled.problems.is_empty(), "{:?}", polled.problems);
}

fn skips(exporter: &Exporter) -> f64 {
    exporter.totals().get(Counter::PhaseSkips, &[])
}

fn malformed(exporter: &Exporter) -> f64 {
    exporter.totals().get(Counter::MalformedLines, &[b"counters"])
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Garbage,
    /// Leaves half a line, which the next append ends.
    Half(usize),
    Rotate,
    /// A process that had the file open still appends to it.
    AppendToRotated,
    /// Somebody copies the file, or looks into an old one.
    Copy,
    Poll,
    Restart,
    /// Killed after counting, before that is written down.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1_usize..20).prop_map(Step::Append),
        1 => Just(Step::Garbage),
        2 => (1_usize..60).prop_map(Step::Half),
        3 => Just(Step::Rotate),
        1 => Just(Step::AppendToRotated),
        1 => Just(Step::Copy),
        4 => Just(Step::Poll),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens_each_line_is_counted_once(steps in steps()) {
        let mut workspace = Workspace::new();
        let mut exporter = Some(workspace.open());
        let (mut lines, mut garbage) = (0_u32, 0_u32);
        let mut rest = String::new();
        poll(exporter.as_mut().unwrap());
        for step in steps {
            let seen = exporter.as_mut().unwrap();
            match step {
                Step::Append(count) => {
                    let mut text = std::mem::take(&mut rest);
                    for _ in 0..count {
                        lines += 1;
                        text += &line(lines);
                    }
                    workspace.append(&text);
                }
                Step::Garbage => {
                    garbage += 1;
                    workspace.append(&format!("{}{{\"counter\":{garbage}\n", std::mem::take(&mut rest)));
                }
                Step::Half(at) if rest.is_empty() => {
                    lines += 1;
                    let whole = line(lines);
                    workspace.append(&whole[..at]);
                    rest = whole[at..].to_owned();
                }
                Step::Rotate if rest.is_empty() => workspace.rotate(),
                Step::AppendToRotated if workspace.rotations > 0 => {
                    lines += 1;
                    append(&workspace.rotated(workspace.rotations - 1), &line(lines));
                }
                Step::Copy => {
                    // Of a file and its copy, neither seen before, nobody could tell which one is appended to.
                    poll(seen);
                    let _ = std::fs::copy(workspace.counters(), workspace.counters().with_extension("jsonl.bak"));
                }
                Step::Half(_) | Step::Rotate | Step::AppendToRotated => {}
                Step::Poll => poll(seen),
                Step::Restart => {
                    exporter = None;
                    drop(exporter.take());
                    exporter = Some(workspace.open());
                }
                Step::Kill => {
                    let before = std::fs::read(workspace.state()).unwrap();
                    poll(seen);
                    drop(exporter.take());
                    std::fs::write(workspace.state(), before).unwrap();
                    exporter = Some(workspace.open());
                }
            }
        }
        workspace.append(&rest);
        let seen = exporter.as_mut().unwrap();
        poll(seen);
        prop_assert_eq!((skips(seen), malformed(seen)), (f64::from(lines), f64::from(garbage)));
    }
}

#[test]
fn several_rotations_between_two_looks_are_seen_and_old_files_are_not() {
    let mut workspace = Workspace::new();
    workspace.append(&line(1));
    workspace.rotate();
    workspace.append(&line(2));
    let mut exporter = workspace.open();
    poll(&mut exporter);
    assert_eq!(skips(&exporter), 1.0);
    for number in 3..6 {
        workspace.append(&line(number));
        workspace.rotate();
    }
    workspace.append(&line(6));
    poll(&mut exporter);
    assert_eq!(skips(&exporter), 5.0);
}

#[test]
fn a_truncated_file_is_read_from_its_beginning() {
    let workspace = Workspace::new();
    workspace.append(&(line(1) + &line(2)));
    let mut exporter = workspace.open();
    poll(&mut exporter);
    File::create(workspace.counters()).unwrap();
    poll(&mut exporter);
    workspace.append(&line(3));
    poll(&mut exporter);
    assert_eq!((skips(&exporter), exporter.truncations()), (3.0, [1, 0, 0]));
    // Longer than before, but another beginning.
    std::fs::write(workspace.counters(), (4..9).map(line).collect::<String>()).unwrap();
    poll(&mut exporter);
    assert_eq!((skips(&exporter), exporter.truncations()), (8.0, [2, 0, 0]));
}

#[test]
fn counting_from_now_on_leaves_out_what_was_there() {
    let workspace = Workspace::new();
    workspace.append(&(line(1) + &line(2)[..20]));
    let mut exporter = Exporter::open(workspace.root(), Start::Now).unwrap();
    poll(&mut exporter);
    assert_eq!(skips(&exporter), 0.0);
    workspace.append(&(line(2)[20..].to_owned() + &line(3)));
    poll(&mut exporter);
    assert_eq!(skips(&exporter), 2.0);
}

#[test]
fn nothing_is_shown_before_the_first_scrape_and_everything_after_a_restart() {
    let workspace = Workspace::new();
    workspace.append(&line(1));
    let mut exporter = workspace.open();
    poll(&mut exporter);
    assert_eq!(exporter.shown().get(Counter::PhaseSkips, &[]), 0.0);
    exporter.was_scraped().unwrap();
    assert_eq!(exporter.shown().get(Counter::PhaseSkips, &[]), 1.0);
    drop(exporter);
    assert_eq!(workspace.open().shown().get(Counter::PhaseSkips, &[]), 1.0);
}

#[test]
fn differences_are_given_once() {
    let workspace = Workspace::new();
    workspace.append(&line(1));
    let differences = |exporter: &mut Exporter| {
        exporter.begin_differences();
        poll(exporter);
        exporter.take_differences().unwrap().get(Counter::PhaseSkips, &[])
    };
    let mut exporter = workspace.open();
    assert_eq!([differences(&mut exporter), differences(&mut exporter)], [1.0, 0.0]);
    drop(exporter);
    workspace.append(&line(2));
    assert_eq!(differences(&mut workspace.open()), 1.0);
}

#[test]
fn there_is_one_exporter_and_others_only_look() {
    let workspace = Workspace::new();
    workspace.append(&line(1));
    let held = workspace.open();
    let error = Exporter::open(workspace.root(), Start::Beginning).unwrap_err();
    assert_eq!(error.code(), "EXPORTER_RUNNING");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    let mut looking = Exporter::look(workspace.root(), Start::Beginning).unwrap();
    poll(&mut looking);
    assert_eq!(skips(&looking), 1.0);
    assert!(!workspace.state().exists());
    drop(held);
}

#[test]
fn a_damaged_state_is_put_aside_and_nothing_is_counted_twice() {
    let workspace = Workspace::new();
    workspace.append(&line(1));
    poll(&mut workspace.open());
    std::fs::write(workspace.state(), "{\"version\":1,").unwrap();
    let mut exporter = workspace.open();
    poll(&mut exporter);
    workspace.append(&line(2));
    poll(&mut exporter);
    assert_eq!(skips(&exporter), 1.0);
}

#[test]
fn what_a_kill_left_is_removed() {
    let workspace = Workspace::new();
    let left = workspace.root().join("state/telemetry/.exporter.json.0123.tmp");
    std::fs::write(&left, "half").unwrap();
    workspace.open();
    assert!(!left.exists());
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other() {
    let workspace = Workspace::new();
    std::fs::create_dir_all(workspace.root().join("state/process/ledger.jsonl")).unwrap();
    workspace.append(&line(1));
    let mut exporter = workspace.open();
    let polled = exporter.poll(Store::Totals([1.0; STORE_TOTALS.len()]));
    assert_eq!(polled.problems.len(), 1);
    assert!(polled.problems[0].to_string().contains("ledger.jsonl"), "{}", polled.problems[0]);
    assert_eq!(skips(&exporter), 1.0);
}

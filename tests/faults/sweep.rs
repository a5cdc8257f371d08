//! Going through all the points at which something can fail.

use std::path::Path;

use driftlock::Error;
use driftlock::durability::Durability;

use super::shim::{Class, Fault, Shim, is_long, job_folder};

/// More operations of one class than any scenario makes; "from there on for good".
const FOR_GOOD: i32 = 1_000_000;

/// Does something below `root` during which one operation fails, and then looks at what is left.
pub(crate) trait Scenario: Sized {
    /// Does it, and notes what was acknowledged.
    fn run(root: &Path, durability: Durability) -> Self;

    /// Checks what is left, before anybody has mended it, after a fault that didn't stay.
    fn check_as_left(&self, root: &Path);

    /// Checks, now that nothing fails any more, that all works again and nothing acknowledged is lost.
    fn check(self, root: &Path);
}

/// Lets each operation of a scenario fail in turn.
pub(crate) fn sweep<S: Scenario>() {
    let shim = Shim::of_this_process();
    let folder = job_folder();
    let mut points = 0;
    for (class, errno, half) in kinds() {
        for durability in [Durability::Process, Durability::PowerCut] {
            for times in [1, FOR_GOOD] {
                for after in 0.. {
                    let root = folder.join("workspace");
                    std::fs::create_dir(&root).unwrap();
                    let fault = Fault { class, after, times, errno, half };
                    // A failing check has to say where it was.
                    let context = Context(format!("{fault:?} {durability:?}"));
                    shim.arm(fault);
                    let scenario = S::run(&root, durability);
                    let hits = shim.disarm();
                    if times == 1 {
                        scenario.check_as_left(&root);
                    }
                    scenario.check(&root);
                    drop(context);
                    std::fs::remove_dir_all(&root).unwrap();
                    if hits == 0 {
                        break;
                    }
                    points += 1;
                }
            }
        }
    }
    eprintln!("{points} points");
    assert!(points > 20, "the shim does not work: {points} points");
}

/// What can fail, and how. The short form takes the errors in turn instead of each with each.
fn kinds() -> Vec<(Class, i32, bool)> {
    let all = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EROFS, libc::EMFILE];
    let short: [(Class, &[i32]); 10] = [
        (Class::Open, &[libc::EMFILE]),
        (Class::Write, &[libc::ENOSPC]),
        (Class::Truncate, &[libc::EIO]),
        (Class::Rename, &[libc::EDQUOT]),
        (Class::Sync, &[libc::EIO]),
        (Class::Mkdir, &[libc::EROFS]),
        (Class::Unlink, &[libc::EIO]),
        (Class::Allocate, &[libc::ENOSPC]),
        (Class::Read, &[libc::EIO]),
        (Class::Stat, &[libc::EIO]),
    ];
    let mut kinds = Vec::new();
    for (class, few) in short {
        for errno in if is_long() { &all } else { few } {
            kinds.push((class, *errno, false));
            if class == Class::Write {
                kinds.push((class, *errno, true));
            }
        }
    }
    kinds
}

/// Says, if a check panics, what failed at that time.
struct Context(String);

impl Drop for Context {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {}", self.0);
        }
    }
}

/// Checks that an error says what failed, and with which file.
pub(crate) fn check_error(error: &Error, root: &Path) {
    assert!(matches!(error.code(), "IO" | "DATABASE"), "{error} ({})", error.code());
    let message = error.to_string();
    assert!(message.contains(&*root.to_string_lossy()), "{message}");
}

/// The lines of a journal, each of which must be whole; none if there is no file.
pub(crate) fn lines(path: &Path) -> Vec<serde_json::Value> {
    let Ok(content) = std::fs::read_to_string(path) else { return Vec::new() };
    assert!(content.is_empty() || content.ends_with('\n'), "half a line in {}", path.display());
    content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

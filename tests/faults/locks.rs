//! File locks, with one operation that fails.

use std::path::Path;

use driftlock::durability::Durability;
use driftlock::lock::{FileLocks, OsLock, Owner};

use super::sweep::{self, Scenario, check_error};

pub(crate) fn sweep() {
    sweep::sweep::<Locked>();
}

struct Locked {
    locks: FileLocks,
    owner: Owner,
}

impl Scenario for Locked {
    fn run(root: &Path, _: Durability) -> Self {
        let this = Self { locks: FileLocks::default(), owner: Owner::new() };
        let path = root.join("a/b/work.lock");
        for _ in 0..3 {
            match this.locks.try_acquire(&path, &this.owner) {
                Ok(acquired) => {
                    assert!(acquired, "held by nobody");
                    this.locks.release(&path);
                }
                Err(error) => check_error(&error, root),
            }
        }
        this
    }

    fn check_as_left(&self, root: &Path) {
        let content = std::fs::read(root.join("a/b/work.lock")).unwrap_or_default();
        assert!(content.is_empty() || serde_json::from_slice::<serde_json::Value>(&content).is_ok());
    }

    fn check(self, root: &Path) {
        let path = root.join("a/b/work.lock");
        // Nobody is kept out, whichever call has failed: neither another process nor this one.
        drop(OsLock::try_acquire(&path).unwrap().unwrap());
        assert!(self.locks.try_acquire(&path, &self.owner).unwrap());
        let holder: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(holder["pid"], std::process::id());
        assert!(OsLock::try_acquire(&path).unwrap().is_none());
        self.locks.release(&path);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}

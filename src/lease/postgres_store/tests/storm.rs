//! Many who want the same leases, while something is done to the server.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use super::*;

const TASKS: usize = 3;
const AGENTS: usize = 6;

/// What goes on among the agents.
#[derive(Default)]
pub(super) struct Storm {
    /// How many are in each task now.
    inside: [AtomicU32; TASKS],
    /// The newest token of each task.
    newest: [AtomicI64; TASKS],
    rounds: AtomicU32,
    is_over: AtomicBool,
}

impl Storm {
    /// Waits until a hundred more leases were held and released.
    pub(super) fn last(&self) {
        let before = self.rounds.load(Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.rounds.load(Ordering::SeqCst) < before + 100 {
            assert!(Instant::now() < deadline, "nobody gets on");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn take_part(&self, manager: &LeaseManager, n: usize) {
        while !self.is_over.load(Ordering::SeqCst) {
            let task = (self.rounds.load(Ordering::SeqCst) as usize + n) % TASKS;
            let Acquisition::Acquired(lease) = acquire(manager, &task.to_string()) else { continue };
            assert_eq!(self.inside[task].fetch_add(1, Ordering::SeqCst), 0);
            assert!(self.newest[task].swap(lease.fencing_token, Ordering::SeqCst) < lease.fencing_token);
            self.rounds.fetch_add(1, Ordering::SeqCst);
            self.inside[task].fetch_sub(1, Ordering::SeqCst);
            assert!(release(manager, &task.to_string()));
        }
    }
}

/// Lets several agents acquire and release leases while `disturb` runs, and a hundred more after it. Never are two in a
/// task, no token comes again or is smaller than one before, and each release finds its lease.
pub(super) fn storm(url: &str, folder: &Path, disturb: impl FnOnce(&Storm)) {
    let storm = Storm::default();
    std::thread::scope(|scope| {
        for n in 0..AGENTS {
            let manager = open(url, folder, options(&n.to_string())).unwrap();
            let storm = &storm;
            scope.spawn(move || storm.take_part(&manager, n));
        }
        disturb(&storm);
        storm.last();
        storm.is_over.store(true, Ordering::SeqCst);
    });
}

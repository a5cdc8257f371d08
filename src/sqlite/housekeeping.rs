//! The one thread of this process that does what callers should not wait for.
//!
//! It is started by the first chore, sleeps without a timeout while nothing is due, and keeps no process alive.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Something to do later, in the background.
pub(crate) trait Chore: Send + Sync {
    /// Does it. A chore that wants to run again schedules itself. Must not block for long.
    fn run(&self);
}

struct Schedule {
    entries: Vec<(Instant, Weak<dyn Chore>)>,
    has_thread: bool,
}

static SCHEDULE: Mutex<Schedule> = Mutex::new(Schedule { entries: Vec::new(), has_thread: false });
static CHANGED: Condvar = Condvar::new();

/// Runs `chore` once `delay` has passed, unless it is gone by then.
pub(crate) fn schedule(chore: Weak<dyn Chore>, delay: Duration) {
    let mut schedule = lock();
    schedule.entries.push((Instant::now() + delay, chore));
    if schedule.has_thread {
        CHANGED.notify_one();
    } else {
        // Without a thread (the system refuses one) the chores run with the next one that can be started; callers
        // survive that: they checkpoint themselves in the end, and statistics go with the next write.
        schedule.has_thread =
            std::thread::Builder::new().name("driftlock-upkeep".to_owned()).spawn(work).is_ok();
    }
}

fn work() {
    let mut schedule = lock();
    loop {
        let now = Instant::now();
        if let Some(due) = schedule.entries.iter().position(|(due, _)| *due <= now) {
            let (_, chore) = schedule.entries.swap_remove(due);
            drop(schedule);
            if let Some(chore) = chore.upgrade() {
                // A defect in one chore must not end the others.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| chore.run()));
            }
            schedule = lock();
            continue;
        }
        schedule.entries.retain(|(_, chore)| chore.strong_count() > 0);
        schedule = match schedule.entries.iter().map(|(due, _)| *due).min() {
            Some(due) => CHANGED.wait_timeout(schedule, due - now).unwrap_or_else(PoisonError::into_inner).0,
            None => CHANGED.wait(schedule).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

fn lock() -> MutexGuard<'static, Schedule> {
    SCHEDULE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;

    struct Report(Mutex<mpsc::Sender<&'static str>>, &'static str);

    impl Chore for Report {
        fn run(&self) {
            self.0.lock().unwrap().send(self.1).unwrap();
            assert_ne!(self.1, "panics");
        }
    }

    #[test]
    fn chores_run_when_due_and_survive_one_that_panics() {
        let (sender, receiver) = mpsc::channel();
        let chore = |name| Arc::new(Report(Mutex::new(sender.clone()), name));
        let (late, early, gone) = (chore("late"), chore("panics"), chore("gone"));
        let weak = |chore: &Arc<Report>| Arc::downgrade(&(Arc::clone(chore) as Arc<dyn Chore>));
        schedule(weak(&late), Duration::from_millis(60));
        schedule(weak(&gone), Duration::from_millis(30));
        schedule(weak(&early), Duration::ZERO);
        drop(gone);
        let wait = Duration::from_secs(10);
        assert_eq!(receiver.recv_timeout(wait).unwrap(), "panics");
        assert_eq!(receiver.recv_timeout(wait).unwrap(), "late");
    }
}

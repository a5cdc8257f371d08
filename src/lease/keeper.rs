//! The one thread of this process that renews what is held, whatever JavaScript is doing.
//!
//! It is started by the first hold, sleeps while there is nothing to do, and keeps no process alive.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::hold::Hold;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// The longest sleep while something is held: the machine may have been asleep meanwhile, which no timer counts.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

struct Kept {
    holds: Vec<(Arc<Hold>, Arc<dyn Clock>)>,
    is_changed: bool,
    has_thread: bool,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { holds: Vec::new(), is_changed: false, has_thread: false });
static CHANGED: Condvar = Condvar::new();

/// Sees to a hold until it is lost or released.
pub(super) fn keep(hold: Arc<Hold>, clock: Arc<dyn Clock>) -> Result<()> {
    let mut kept = lock();
    if !kept.has_thread {
        std::thread::Builder::new()
            .name("driftlock-keeper".to_owned())
            .spawn(work)
            .map_err(|error| Error::Defect(format!("the system refused a thread for renewals: {error}")))?;
        kept.has_thread = true;
    }
    kept.holds.push((hold, clock));
    drop(kept);
    wake();
    Ok(())
}

/// To be called when a hold has to be seen to at another time than before.
pub(super) fn wake() {
    lock().is_changed = true;
    CHANGED.notify_one();
}

fn work() {
    loop {
        let holds: Vec<_> = {
            let mut kept = lock();
            kept.holds.retain(|(hold, _)| hold.is_kept());
            kept.is_changed = false;
            kept.holds.iter().map(|(hold, clock)| (Arc::clone(hold), Arc::clone(clock))).collect()
        };
        let mut sleep = None;
        for (hold, clock) in &holds {
            if hold.next_look() <= clock.boot_ms() {
                // A defect in one renewal must not end the others.
                let _ = catch_unwind(AssertUnwindSafe(|| hold.see_to()));
            }
            let left = hold.next_look().saturating_sub(clock.boot_ms()).max(1);
            let left = Duration::from_millis(left.unsigned_abs()).min(LONGEST_SLEEP);
            sleep = Some(sleep.map_or(left, |sleep: Duration| sleep.min(left)));
        }
        drop(holds);
        let kept = lock();
        if kept.is_changed {
            continue;
        }
        match sleep {
            Some(sleep) => drop(CHANGED.wait_timeout(kept, sleep).unwrap_or_else(PoisonError::into_inner)),
            None => drop(CHANGED.wait(kept).unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn lock() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

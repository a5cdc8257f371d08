//! What this process keeps for a database beside its connections, and does for it in the background.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::statistics::{Figure, Figures, Pending};
use super::sweep;
use super::term::Now;
use super::tokens::TokenSource;
use super::waiting::WaitingRoom;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::Result;
use crate::lease::presence::{self, Presence};
use crate::sqlite::{Chore, Database, Failure, Unavailable, schedule};

/// How long figures may stay in memory.
const FOLD_INTERVAL: Duration = Duration::from_millis(500);

/// How long the end of a store waits for others, before what it has counted stays in memory.
const FLUSH_PATIENCE: Duration = Duration::from_millis(50);

/// When long-dead leases are looked for first: soon, since many processes don't live long.
const FIRST_SWEEP: Duration = Duration::from_secs(1);

/// How often they are looked for after that, while anybody uses the database.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Until the next try, when something was in the way.
const RETRY: Duration = Duration::from_millis(20);

/// The state of a database that its managers in this process share.
pub(super) struct Upkeep {
    pub(super) tokens: TokenSource,
    pub(super) pending: Pending,
    fold_is_scheduled: AtomicBool,
    /// When the next sweep is due; `None` while none is scheduled.
    next_sweep: Mutex<Option<Instant>>,
    database: Weak<Database>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) room: Arc<WaitingRoom>,
    /// This process's presence at the database, while a store has it.
    presence: Mutex<Weak<Presence>>,
}

impl Upkeep {
    pub(super) fn new(database: &Arc<Database>, clock: Arc<dyn Clock>) -> Self {
        Self {
            tokens: TokenSource::default(),
            pending: Pending::default(),
            fold_is_scheduled: AtomicBool::new(false),
            next_sweep: Mutex::new(None),
            database: Arc::downgrade(database),
            clock,
            room: WaitingRoom::new(),
            presence: Mutex::default(),
        }
    }

    /// Announces this process, unless it is announced.
    pub(super) fn announce(&self, database: &Database) -> Result<Arc<Presence>> {
        let mut known = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(presence) = known.upgrade() {
            return Ok(presence);
        }
        let presence = Arc::new(Presence::announce(database.path())?);
        *known = Arc::downgrade(&presence);
        Ok(presence)
    }

    /// Counts something that happens often.
    pub(super) fn count_one(self: &Arc<Self>, figure: Figure) {
        self.pending.add_one(figure);
        self.schedule_fold(FOLD_INTERVAL);
    }

    /// Counts something; it is stored within half a second while a manager is open.
    #[inline(never)]
    pub(super) fn count(self: &Arc<Self>, figures: Figures) {
        if !figures.is_zero() {
            self.pending.add(figures);
            figures.publish();
            self.schedule_fold(FOLD_INTERVAL);
        }
    }

    /// Stores what is pending, at the end of a store. Others who write take microseconds; who takes longer is not
    /// waited for.
    pub(super) fn flush(&self, database: &Database) {
        let Ok(writer) = database.writer() else { return };
        let deadline = Instant::now() + FLUSH_PATIENCE;
        let mut backoff = Backoff::default();
        while database.is_in_place()
            && let Err(Failure::Busy) = self.pending.fold(&writer)
            && Instant::now() < deadline
        {
            std::thread::sleep(backoff.next_wait());
        }
    }

    /// Sees to it that long-dead leases are swept now and then.
    pub(super) fn schedule_sweep(self: &Arc<Self>) {
        let mut next = self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        if next.is_none() {
            *next = Some(Instant::now() + FIRST_SWEEP);
            self.schedule(FIRST_SWEEP);
        }
    }

    fn schedule_fold(self: &Arc<Self>, delay: Duration) {
        // Looked at before it is set: this is on the path of refusals.
        if !self.fold_is_scheduled.load(Ordering::Relaxed)
            && !self.fold_is_scheduled.swap(true, Ordering::Relaxed)
        {
            self.schedule(delay);
        }
    }

    fn schedule(self: &Arc<Self>, delay: Duration) {
        let chore: Weak<dyn Chore> = Arc::<Self>::downgrade(self);
        schedule(chore, delay);
    }

    fn sweep_is_due(&self) -> bool {
        let next = self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner);
        next.is_some_and(|due| due <= Instant::now())
    }
}

/// The chore of an [`Upkeep`].
impl Chore for Upkeep {
    fn run(&self) {
        let Some(database) = self.database.upgrade() else { return };
        // The database keeps this very state; that is how it gets hold of itself to be scheduled again.
        let Some(this) = database.attached::<Self>() else { return };
        self.fold_is_scheduled.store(false, Ordering::Relaxed);
        let writer = match database.try_writer() {
            Ok(writer) => writer,
            Err(Unavailable::Taken) => return this.schedule_fold(RETRY),
            Err(Unavailable::Closed) => return,
        };
        if !database.is_in_use() || !database.is_in_place() {
            *self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner) = None;
            return;
        }
        if let Err(Failure::Busy) = self.pending.fold(&writer) {
            this.schedule_fold(RETRY);
        }
        if self.sweep_is_due() {
            let swept = sweep::sweep(&writer, Now::of(&*self.clock), &self.pending);
            let delay = match swept {
                Ok(sweep::Swept::All) | Err(Failure::Refused(_) | Failure::NotSynced(_)) => SWEEP_INTERVAL,
                Ok(sweep::Swept::Batch) | Err(Failure::Busy) => RETRY,
            };
            *self.next_sweep.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + delay);
            this.schedule(delay);
            if let Ok(named) = sweep::named_processes(&writer, Now::of(&*self.clock)) {
                presence::remove_unnamed(database.path(), |file| named.iter().any(|name| name == file));
            }
        }
        database.after_commit(&writer);
    }
}

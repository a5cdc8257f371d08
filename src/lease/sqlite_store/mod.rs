//! Leases in the workspace's SQLite database.

mod administration;
mod changes;
mod claiming;
mod claims;
mod events;
#[cfg(test)]
mod protocol;
mod queries;
mod queue;
#[cfg(test)]
mod refusals;
mod schema;
mod statistics;
mod sweep;
mod term;
mod tokens;
mod totals;
mod transfer;
mod upkeep;
mod values;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::changes::{Attempt, Granting};
use self::schema::Schema;
use self::statistics::{Figure, Figures};
use self::term::{NewTerm, Now};
use self::upkeep::Upkeep;
use self::waiting::Waiter;
use super::claim::{Answer, Claim, Claimed, Fence, LeaseEvent, ListedLease, Ticket};
use super::model::{
    Acquisition, ClockSource, DatabaseHealth, Lease, LeaseKey, LeaseStats, LeaseTotals, Renewal, StoreHealth,
};
use super::patience::{Patience, Wait};
use super::presence::Presence;
use super::store::{LeaseStore, LeaseTerms, Request};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::durability::Durability;
use crate::error::{Error, IoContext, Result};
use crate::files::FileId;
use crate::files::sync_folders;
use crate::sqlite::{Database, DatabaseHandle, Failure, Missing, WriteTransaction, is_wal, open, removed};
use crate::text::Text;

pub use self::totals::totals_of;

/// A store in `<workspace>/state/orchestrator.db`.
///
/// What a call has answered survives the end of any process at any moment. A power cut may take back the last
/// answers, never a part of one, unless the store was opened to let them survive it; in any case no fencing token is
/// ever given out twice. A power cut also ends all leases.
pub struct SqliteLeaseStore {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    durability: Durability,
    /// `None` once closed.
    opened: Mutex<Option<Opened>>,
    /// Tells the waiters of this store from those of others.
    id: u64,
}

/// What names the stores of this process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

struct Opened {
    handle: DatabaseHandle,
    upkeep: Arc<Upkeep>,
    /// Announced with the first lease that is acquired.
    presence: Option<Arc<Presence>>,
}

impl SqliteLeaseStore {
    /// Opens the database, making it and its folder where they don't exist, and upgrading one of before.
    ///
    /// Waits up to 5 s for other processes that do the same. Writes nothing if all is in place.
    pub fn open(workspace: &Path, clock: Arc<dyn Clock>, durability: Durability) -> Result<Self> {
        let path = database_path(workspace)?;
        create_folder(&path)?;
        Self::open_at(path, Missing::Create, clock, durability)
    }

    /// [`Self::open`], but fails where there is no database.
    pub fn open_existing(workspace: &Path, clock: Arc<dyn Clock>, durability: Durability) -> Result<Self> {
        Self::open_at(database_path(workspace)?, Missing::Refuse, clock, durability)
    }

    fn open_at(
        path: PathBuf,
        missing: Missing,
        clock: Arc<dyn Clock>,
        durability: Durability,
    ) -> Result<Self> {
        let opened = Opened::open(&path, missing, &clock, durability)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Self { path, clock, durability, opened: Mutex::new(Some(opened)), id })
    }

    fn now(&self) -> Now<'_> {
        Now::of(&*self.clock)
    }

    /// The database that is at the path now: opened anew if another file took its place.
    fn current(&self) -> Result<(Arc<Database>, Arc<Upkeep>)> {
        let mut slot = self.lock();
        let opened = slot.as_mut().ok_or(Error::Closed)?;
        match FileId::of_path(&self.path).context("look at", &self.path)? {
            Some(identity) if identity == opened.handle.identity() => {}
            Some(_) => {
                *opened = Opened::open(&self.path, Missing::Refuse, &self.clock, self.durability)?;
            }
            None => return Err(removed(&self.path)),
        }
        Ok((Arc::clone(&opened.handle), Arc::clone(&opened.upkeep)))
    }

    /// The proof that this process is alive, at the database that is open.
    fn presence(&self) -> Result<Arc<Presence>> {
        let mut slot = self.lock();
        let opened = slot.as_mut().ok_or(Error::Closed)?;
        if let Some(presence) = &opened.presence {
            return Ok(Arc::clone(presence));
        }
        let presence = opened.upkeep.announce(&opened.handle)?;
        opened.presence = Some(Arc::clone(&presence));
        Ok(presence)
    }

    fn granting<'a>(&'a self, presence: &'a Presence, upkeep: &'a Arc<Upkeep>) -> Granting<'a> {
        Granting { now: self.now(), durability: self.durability, process: presence.name(), upkeep }
    }

    /// Tries on the writing connection until it works or the patience is at its end.
    fn write<T>(
        &self,
        wait: Wait<'_>,
        mut attempt: impl FnMut(&Connection, &Arc<Upkeep>) -> Result<T, Failure>,
    ) -> Result<T> {
        if self.durability.would_block(wait.patience()) {
            return Err(Error::DatabaseLocked);
        }
        if wait.patience() != Patience::Now
            && let Some(rest) = self.current()?.0.contention().rest()
        {
            wait.sleep(rest);
        }
        let mut backoff = None;
        loop {
            wait.check_open()?;
            let (database, upkeep) = self.current()?;
            let patience = if let Ok(writer) = database.try_writer() {
                // Again, now that `close` has to wait for this connection.
                wait.check_open()?;
                let answer = match database.remove_doubt(&writer, wait.patience()) {
                    Ok(()) => attempt(&writer, &upkeep),
                    Err(failure) => Err(failure),
                };
                match database.noting_failed_sync(answer) {
                    Ok(answer) => {
                        database.after_commit(&writer);
                        database.contention().passed(Instant::now());
                        return Ok(answer);
                    }
                    Err(Failure::Busy)
                        if wait.patience() == Patience::Now && database.contention().refused() =>
                    {
                        drop(writer);
                        std::thread::yield_now();
                        continue;
                    }
                    Err(Failure::Busy) => {}
                    Err(failure) => return Err(failure.at(&self.path)),
                }
                wait.patience()
            } else {
                // Another thread of this process, which lets go within microseconds of running.
                wait.for_this_process()
            };
            pause(patience, &mut backoff)?;
        }
    }

    /// Tries on a connection for reading until it works or the patience is at its end: both connections may be taken,
    /// or another process may be repairing the log. Writers are not waited for.
    fn read<T>(&self, wait: Wait<'_>, attempt: impl Fn(&Connection) -> Result<T, Failure>) -> Result<T> {
        let mut backoff = None;
        loop {
            wait.check_open()?;
            let (database, _) = self.current()?;
            if let Ok(reader) = database.try_reader() {
                match attempt(&reader) {
                    Err(Failure::Busy) => {}
                    answer => return answer.map_err(|failure| failure.at(&self.path)),
                }
            }
            pause(wait.patience(), &mut backoff)?;
        }
    }

    /// Counts something that no transaction of its own can.
    fn count(&self, figure: Figure) {
        if let Some(opened) = &*self.lock() {
            opened.upkeep.count_one(figure);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    fn open(path: &Path, missing: Missing, clock: &Arc<dyn Clock>, durability: Durability) -> Result<Self> {
        let handle = open(path, missing, &Schema { boot_id: clock.boot_id() })?;
        if durability == Durability::PowerCut {
            // SQLite syncs the folder of what it makes, but others may have made the files without.
            sync_folders(path).context("sync the folder of", path)?;
        }
        let upkeep = handle.attachment(|| Upkeep::new(&handle, Arc::clone(clock)))?;
        upkeep.schedule_sweep();
        // At the first opening after a boot, so that the first acquisition doesn't have to wait for the disk. Should
        // somebody be in the way, that one does it.
        if let Ok(writer) = handle.try_writer()
            && handle.remove_doubt(&writer, Patience::Until(Instant::now())).is_ok()
            && let Ok(sequence) = tokens::read(&writer, clock.boot_id())
            && !upkeep.tokens.can_take(sequence, clock.boot_id())
        {
            drop(handle.noting_failed_sync(upkeep.tokens.prepare(&writer, clock.boot_id())));
        }
        Ok(Self { handle, upkeep, presence: None })
    }
}

impl LeaseStore for SqliteLeaseStore {
    fn acquire(&self, key: LeaseKey<'_>, terms: LeaseTerms<'_>, wait: Wait<'_>) -> Result<Acquisition> {
        let presence = self.presence()?;
        let answer = self.write(wait, |writer, upkeep| {
            loop {
                let granting = self.granting(&presence, upkeep);
                match changes::acquire(writer, key, terms, granting)? {
                    Attempt::Answer(answer) => {
                        if matches!(answer, Acquisition::Held { .. }) {
                            upkeep.count_one(Figure::ContentionEvents);
                        }
                        return Ok(Some(answer));
                    }
                    Attempt::Wanted => return Ok(None),
                    // Preparing syncs the disk, which a caller that must not block leaves to one that may.
                    Attempt::NeedsTokens if wait.patience() == Patience::Now => return Err(Failure::Busy),
                    Attempt::NeedsTokens => upkeep.tokens.prepare(writer, granting.now.boot_id)?,
                }
            }
        });
        match answer? {
            Some(answer) => Ok(answer),
            None => self.claim(&Claim::plain(key, terms), wait).map(Acquisition::from),
        }
    }

    fn claim(&self, claim: &Claim, wait: Wait<'_>) -> Result<Claimed> {
        let presence = self.presence()?;
        let answer = self.claim_now(&Claim { queue_ms: 0, ..claim.clone() }, &[], &presence, wait)?;
        if !matches!(answer, Claimed::Refused { .. }) {
            return Ok(answer);
        }
        // Looked for without the write lock: who is dead stays dead.
        let dead = self.dead_in_the_way(claim, wait)?;
        let answer = if dead.is_empty() && claim.queue_ms == 0 {
            answer
        } else {
            self.claim_now(claim, &dead, &presence, wait)?
        };
        // One that waits is counted with its answer.
        if matches!(answer, Claimed::Refused { ticket: None, .. }) {
            self.count(Figure::ContentionEvents);
        }
        Ok(answer)
    }

    fn await_turn(&self, ticket: Ticket, claim: Claim, answer: Answer) {
        let entered = self.current().and_then(|(database, upkeep)| Ok((database, upkeep, self.presence()?)));
        match entered {
            Ok((database, upkeep, presence)) => {
                let queue_ms = u64::try_from(claim.queue_ms).unwrap_or(0);
                let until = Instant::now() + Duration::from_millis(queue_ms);
                let (owner, durability) = (self.id, self.durability);
                let waiter = Waiter { owner, claim, durability, presence, until, answer };
                upkeep.room.enter(&database, ticket, waiter);
            }
            Err(error) => answer(Err(error)),
        }
    }

    fn cancel(&self, ticket: Ticket) {
        if let Ok((_, upkeep)) = self.current() {
            upkeep.room.cancel(ticket);
        }
    }

    fn renew(
        &self,
        key: LeaseKey<'_>,
        terms: LeaseTerms<'_>,
        max_renewals: u64,
        wait: Wait<'_>,
    ) -> Result<Renewal> {
        let presence = self.presence()?;
        self.write(wait, |writer, upkeep| {
            let granting = self.granting(&presence, upkeep);
            let renewal = changes::renew(writer, key, terms, max_renewals, granting)?;
            upkeep.count_one(match renewal {
                Renewal::Renewed { .. } => Figure::Renewed,
                Renewal::NotHeld | Renewal::MaxRenewalsExceeded => Figure::RenewalsRefused,
            });
            Ok(renewal)
        })
    }

    fn extend(&self, key: LeaseKey<'_>, lease_id: &str, duration_ms: i64, wait: Wait<'_>) -> Result<bool> {
        let presence = self.presence()?;
        self.write(wait, |writer, upkeep| {
            let now = self.now();
            let transaction = changes::synced(writer, self.durability)?;
            let term = NewTerm::starting(now, duration_ms);
            let is_there = changes::set_term(writer, key, lease_id, &term, presence.name(), now)?;
            transaction.map_or(Ok(()), WriteTransaction::commit)?;
            upkeep.count_one(if is_there { Figure::Renewed } else { Figure::RenewalsRefused });
            Ok(is_there)
        })
    }

    fn release(
        &self,
        key: LeaseKey<'_>,
        holder: &Text,
        lease_id: Option<&str>,
        wait: Wait<'_>,
    ) -> Result<bool> {
        self.write(wait, |writer, upkeep| {
            let ended = changes::release(writer, key, holder, lease_id, self.now(), self.durability)?;
            upkeep.count(ended);
            upkeep.room.nudge();
            Ok(ended.get(Figure::FinishedHolds) > 0)
        })
    }

    fn release_all(&self, holder: &Text, wait: Wait<'_>) -> Result<u64> {
        self.write(wait, |writer, upkeep| {
            let ended = changes::release_all(writer, holder, self.now(), self.durability)?;
            upkeep.count(ended);
            upkeep.room.nudge();
            Ok(ended.get(Figure::FinishedHolds))
        })
    }

    fn force_release(
        &self,
        key: LeaseKey<'_>,
        by: &Text,
        reason: &Text,
        wait: Wait<'_>,
    ) -> Result<Option<Lease>> {
        self.write(wait, |writer, upkeep| {
            let released =
                administration::force_release(writer, key, by, reason, self.now(), self.durability)?;
            Ok(released.map(|(lease, figures)| {
                upkeep.count(figures.plus(Figures::one(Figure::ForcedReleases)));
                upkeep.room.nudge();
                lease
            }))
        })
    }

    fn fenced(&self, fence: &Fence, work: &mut dyn FnMut() -> Result<()>, wait: Wait<'_>) -> Result<()> {
        self.write(wait, |writer, _| administration::fenced(writer, fence, work))?
    }

    fn list(&self, wait: Wait<'_>) -> Result<Vec<ListedLease>> {
        self.read(wait, |reader| administration::list(reader, self.now()))
    }

    fn latest_event(&self, wait: Wait<'_>) -> Result<i64> {
        self.read(wait, events::latest)
    }

    fn events_after(&self, id: i64, wait: Wait<'_>) -> Result<Vec<LeaseEvent>> {
        self.read(wait, |reader| events::after(reader, id))
    }

    fn get(&self, key: LeaseKey<'_>, wait: Wait<'_>) -> Result<Option<Lease>> {
        self.read(wait, |reader| queries::get(reader, key))
    }

    fn holds(&self, key: LeaseKey<'_>, holder: &Text, wait: Wait<'_>) -> Result<bool> {
        self.read(wait, |reader| queries::holds(reader, key, holder, self.now()))
    }

    fn stats(&self, wait: Wait<'_>) -> Result<LeaseStats> {
        let leases = self.read(wait, |reader| queries::count_leases(reader, self.now()))?;
        let figures = self
            .write(wait, |writer, upkeep| Ok(statistics::stored(writer)?.plus(upkeep.pending.figures())))?;
        Ok(LeaseStats {
            average_hold_time_s: figures.average_hold_s(),
            contention_events: figures.get(Figure::ContentionEvents),
            ..leases
        })
    }

    fn totals(&self, wait: Wait<'_>) -> Result<LeaseTotals> {
        let now = self.now();
        self.write(wait, |writer, upkeep| totals::read(writer, Some(&upkeep.pending), now))
    }

    fn highest_token(&self, wait: Wait<'_>) -> Result<i64> {
        self.read(wait, |reader| transfer::highest_token(reader, self.now()))
    }

    fn take_in(&self, leases: &[ListedLease], above: i64, wait: Wait<'_>) -> Result<()> {
        self.write(wait, |writer, upkeep| {
            transfer::take_in(writer, leases, above, &upkeep.tokens, self.now())
        })
    }

    fn count_failure(&self, request: Request) {
        self.count(match request {
            Request::Acquisition => Figure::AcquireErrors,
            Request::Renewal => Figure::RenewalErrors,
        });
    }

    fn health(&self, wait: Wait<'_>) -> Result<StoreHealth> {
        let (is_wal, is_old_schema) =
            self.read(wait, |reader| Ok((is_wal(reader)?, schema::is_old(reader)?)))?;
        let bytes = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        // The log is beside the file itself, wherever a link to it is.
        let mut log = self.path.canonicalize().context("find", &self.path)?.into_os_string();
        log.push("-wal");
        Ok(StoreHealth::Workspace(DatabaseHealth {
            database: self.path.clone(),
            database_bytes: bytes(&self.path),
            log_bytes: bytes(Path::new(&log)),
            is_wal,
            is_old_schema,
            clock: if self.clock.boot_id().is_some() { ClockSource::Boot } else { ClockSource::Wall },
        }))
    }

    fn close(&self) {
        // The lock is free again before the connection is waited for.
        let opened = self.lock().take();
        if let Some(opened) = opened {
            opened.upkeep.room.dismiss(self.id, &opened.handle);
            opened.upkeep.flush(&opened.handle);
        }
    }
}

/// Waits before the next try, or fails if there is to be none.
fn pause(patience: Patience, backoff: &mut Option<Backoff>) -> Result<()> {
    let Patience::Until(deadline) = patience else { return Err(Error::DatabaseLocked) };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Error::DatabaseLocked);
    }
    std::thread::sleep(backoff.get_or_insert_default().next_wait().min(left));
    Ok(())
}

/// Where a workspace's database is. An absolute path stays right when the process changes its directory, and is never
/// read as a URI.
fn database_path(workspace: &Path) -> Result<PathBuf> {
    Ok(std::path::absolute(workspace).context("find", workspace)?.join("state/orchestrator.db"))
}

/// Makes the folder of the database at `path`, and makes it last: a power cut that takes the folder, or the workspace
/// if that was made too, takes the tokens given out since.
fn create_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) else { return Ok(()) };
    std::fs::create_dir_all(folder).context("create the folder", folder)?;
    sync_folders(path).context("sync", folder)
}

/// Sweeps one batch as the housekeeping thread does, from a connection of its own.
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test fails by panicking")]
pub fn sweep_now(database: &Path, clock: &dyn Clock) {
    let connection = Connection::open(database).unwrap();
    sweep::sweep(&connection, Now::of(clock), &statistics::Pending::default()).unwrap();
}

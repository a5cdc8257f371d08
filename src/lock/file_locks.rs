//! File locks as callers know them: by path, with a queue inside the process and limits on waiting.
//!
//! Callers of one process that want the same path queue here, first come, first served, and only the head of the
//! queue asks the operating system. Between processes the order is the operating system's. The head polls: a
//! blocking `flock` can be neither cancelled nor given a limit, and would hold a thread for each path.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::os_lock::OsLock;
use crate::backoff::Backoff;
use crate::clock::{Clock, SystemClock, iso_timestamp};
use crate::error::{IoContext, Result};
use crate::files::{make_private, write_all_at};
use crate::text::Text;

/// The first pause between two attempts on a lock that another process holds.
const FIRST_PAUSE: Duration = Duration::from_micros(100);
/// The longest such pause: a lock that its holder drops is noticed within about this time.
const LONGEST_PAUSE: Duration = Duration::from_millis(3);

/// For how long, and how often, to try.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// The longest wait. Zero still tries once.
    pub timeout: Duration,
    /// The nominal pause between two attempts. It is only used to turn `max_retries` into a time: a lock that becomes
    /// free is taken at once, not at the end of a pause.
    pub retry_delay: Duration,
    /// The number of attempts. Zero never acquires.
    pub max_retries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), retry_delay: Duration::from_millis(50), max_retries: 100 }
    }
}

impl Limits {
    /// Whether a first attempt that fails is also the last.
    #[must_use]
    pub fn ends_at_once(&self) -> bool {
        self.wait().is_zero()
    }

    /// How long to wait after a first attempt that failed: the wait ends at whichever limit comes first.
    fn wait(&self) -> Duration {
        let pauses = u32::try_from(self.max_retries.saturating_sub(1)).unwrap_or(u32::MAX);
        self.timeout.min(self.retry_delay.saturating_mul(pauses))
    }
}

/// On whose behalf locks are held. When an owner ends, its locks are released and its waiters give up.
#[derive(Debug, Clone)]
pub struct Owner(Arc<AtomicBool>);

impl Owner {
    /// A new owner, different from all others.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    fn is_alive(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

/// The locks that this process holds and waits for.
#[derive(Debug, Default)]
pub struct FileLocks {
    paths: Mutex<HashMap<PathBuf, PathState>>,
}

#[derive(Debug, Default)]
struct PathState {
    held: Option<(OsLock, Owner)>,
    waiting: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    turn: Arc<Notify>,
    owner: Owner,
}

impl FileLocks {
    /// The table of this process.
    pub fn of_process() -> &'static Self {
        static TABLE: OnceLock<FileLocks> = OnceLock::new();
        TABLE.get_or_init(Self::default)
    }

    /// Tries once, without waiting and without overtaking those who wait.
    pub fn try_acquire(&self, path: &Path, owner: &Owner) -> Result<bool> {
        let path = std::path::absolute(path).context("resolve", path)?;
        let mut paths = self.lock();
        if paths.get(&path).is_some_and(|state| state.held.is_some() || !state.waiting.is_empty()) {
            return Ok(false);
        }
        let Some(lock) = OsLock::try_acquire(&path)? else { return Ok(false) };
        write_holder(&lock)?;
        paths.entry(path).or_default().held = Some((lock, owner.clone()));
        Ok(true)
    }

    /// Takes a place at the end of the queue for `path`.
    pub fn queue(&self, path: &Path, owner: &Owner) -> Result<Place<'_>> {
        let path = std::path::absolute(path).context("resolve", path)?;
        let turn = Arc::new(Notify::new());
        let waiter = Waiter { turn: Arc::clone(&turn), owner: owner.clone() };
        self.lock().entry(path.clone()).or_default().waiting.push_back(waiter);
        Ok(Place { locks: self, path, turn, owner: owner.clone() })
    }

    /// Releases the lock on `path` if this process holds it: empties the file, then unlocks it.
    pub fn release(&self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else { return };
        let mut paths = self.lock();
        if let Some(state) = paths.get_mut(&path) {
            state.release();
            Self::forget_if_unused(&mut paths, &path);
        }
    }

    /// Releases the lock on `path` if it is held for `owner`: another one's, whoever got it meanwhile, stays.
    pub fn release_of(&self, path: &Path, owner: &Owner) {
        let Ok(path) = std::path::absolute(path) else { return };
        let mut paths = self.lock();
        if let Some(state) = paths.get_mut(&path)
            && state.held.as_ref().is_some_and(|(_, holder)| holder.is(owner))
        {
            state.release();
            Self::forget_if_unused(&mut paths, &path);
        }
    }

    /// Ends an owner: its locks are released, its waiters answer false.
    pub fn end(&self, owner: &Owner) {
        owner.0.store(false, Ordering::Release);
        let mut paths = self.lock();
        paths.retain(|_, state| {
            // At once, and not when they wake: who comes next must not find a queue of waiters that have ended.
            state.waiting.retain(|waiter| {
                let stays = !waiter.owner.is(owner);
                if !stays {
                    waiter.turn.notify_one();
                }
                stays
            });
            if state.held.as_ref().is_none_or(|(_, holder)| holder.is(owner)) {
                state.release();
            }
            state.held.is_some() || !state.waiting.is_empty()
        });
    }

    fn take_turn(&self, place: &Place<'_>) -> Result<Turn> {
        let mut paths = self.lock();
        // Under the lock of the table: either `end` sees what this takes, or this sees that the owner has ended.
        if !place.owner.is_alive() {
            return Ok(Turn::OwnerEnded);
        }
        let Some(state) = paths.get_mut(&place.path) else { return Ok(Turn::BehindOthers) };
        let is_head = state.waiting.front().is_some_and(|head| Arc::ptr_eq(&head.turn, &place.turn));
        if !is_head || state.held.is_some() {
            return Ok(Turn::BehindOthers);
        }
        let Some(lock) = OsLock::try_acquire(&place.path)? else { return Ok(Turn::HeldElsewhere) };
        write_holder(&lock)?;
        state.held = Some((lock, place.owner.clone()));
        Ok(Turn::Acquired)
    }

    fn forget_if_unused(paths: &mut HashMap<PathBuf, PathState>, path: &Path) {
        if paths.get(path).is_some_and(|state| state.held.is_none() && state.waiting.is_empty()) {
            paths.remove(path);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, PathState>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Turn {
    Acquired,
    HeldElsewhere,
    BehindOthers,
    OwnerEnded,
}

impl PathState {
    fn release(&mut self) {
        if let Some((lock, _)) = self.held.take() {
            // A leftover content misleads nobody but an old process, which waits for a file that is not empty.
            let _ = lock.file().set_len(0);
        }
        if let Some(head) = self.waiting.front() {
            head.turn.notify_one();
        }
    }
}

/// A place in the queue for a path, given up when dropped.
#[derive(Debug)]
pub struct Place<'a> {
    locks: &'a FileLocks,
    path: PathBuf,
    turn: Arc<Notify>,
    owner: Owner,
}

impl Place<'_> {
    /// Waits for the lock until the limits end the wait; false if they did.
    pub async fn wait(self, limits: Limits) -> Result<bool> {
        let deadline = Instant::now() + limits.wait();
        let mut backoff = Backoff::between(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let until = match self.locks.take_turn(&self)? {
                Turn::Acquired => return Ok(true),
                Turn::OwnerEnded => return Ok(false),
                Turn::HeldElsewhere => {
                    let next = Instant::now() + backoff.next_wait();
                    next.min(deadline)
                }
                Turn::BehindOthers => deadline,
            };
            if Instant::now() >= deadline {
                return Ok(false);
            }
            let _ = tokio::time::timeout_at(until, self.turn.notified()).await;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut paths = self.locks.lock();
        if let Some(state) = paths.get_mut(&self.path) {
            state.waiting.retain(|waiter| !Arc::ptr_eq(&waiter.turn, &self.turn));
            if let (None, Some(head)) = (&state.held, state.waiting.front()) {
                head.turn.notify_one();
            }
            FileLocks::forget_if_unused(&mut paths, &self.path);
        }
    }
}

/// Writes who holds the lock, for people and for old processes, which wait for a file that says so.
fn write_holder(lock: &OsLock) -> Result<()> {
    let hostname = std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty());
    let mut json = format!("{{\"pid\":{},\"hostname\":", std::process::id()).into_bytes();
    Text::from(hostname.as_deref().unwrap_or("unknown")).write_json(&mut json);
    json.extend_from_slice(b",\"acquiredAt\":\"");
    json.extend_from_slice(iso_timestamp(SystemClock.wall_ms()).as_bytes());
    json.extend_from_slice(b"\"}");
    let file = lock.file();
    let write = || {
        let metadata = file.metadata()?;
        make_private(file, &metadata)?;
        if metadata.len() > json.len() as u64 {
            file.set_len(0)?;
        }
        write_all_at(file, &json, 0)
    };
    write().context("write the holder into", lock.path()).inspect_err(|_| {
        // An old process would wait for a file that says something, and nobody holds this one.
        let _ = file.set_len(0);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: Limits =
        Limits { timeout: Duration::from_secs(20), retry_delay: Duration::from_secs(1), max_retries: 100 };

    fn lock_path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("work.lock");
        (folder, path)
    }

    #[test]
    fn the_wait_ends_at_whichever_limit_comes_first() {
        assert_eq!(Limits::default().wait(), Duration::from_millis(4950));
        assert_eq!(Limits { max_retries: 200, ..Limits::default() }.wait(), Duration::from_secs(5));
        assert_eq!(Limits { max_retries: 1, ..Limits::default() }.wait(), Duration::ZERO);
        assert_eq!(Limits { max_retries: u64::MAX, ..Limits::default() }.wait(), Duration::from_secs(5));
    }

    #[test]
    fn a_lock_is_not_reentrant_and_its_file_is_empty_after_release() {
        let (_folder, path) = lock_path();
        let locks = FileLocks::default();
        let owner = Owner::new();
        assert!(locks.try_acquire(&path, &owner).unwrap());
        assert!(!locks.try_acquire(&path, &owner).unwrap());
        let holder: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(holder["pid"], std::process::id());
        locks.release(&path);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert!(locks.lock().is_empty());
    }

    #[test]
    fn what_a_leftover_file_says_keeps_nobody_out() {
        let (_folder, path) = lock_path();
        std::fs::write(&path, r#"{"pid":1,"hostname":"elsewhere","acquiredAt":"2999-01-01T00:00:00.000Z"}"#)
            .unwrap();
        assert!(FileLocks::default().try_acquire(&path, &Owner::new()).unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn waiters_are_served_in_the_order_in_which_they_came() {
        let (_folder, path) = lock_path();
        let locks: &'static FileLocks = Box::leak(Box::default());
        let owner = Owner::new();
        assert!(locks.try_acquire(&path, &owner).unwrap());
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiters = Vec::new();
        for number in 0..50 {
            let (path, owner, order) = (path.clone(), owner.clone(), Arc::clone(&order));
            waiters.push(tokio::spawn(async move {
                assert!(locks.queue(&path, &owner).unwrap().wait(PATIENT).await.unwrap());
                order.lock().unwrap().push(number);
                locks.release(&path);
            }));
            while locks.lock().values().next().unwrap().waiting.len() <= number {
                tokio::task::yield_now().await;
            }
        }
        locks.release(&path);
        for waiter in waiters {
            waiter.await.unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..50).collect::<Vec<_>>());
        assert!(locks.lock().is_empty());
    }

    #[tokio::test]
    async fn a_waiter_gives_up_at_its_deadline_and_leaves_its_place() {
        let (_folder, path) = lock_path();
        let locks = FileLocks::default();
        let owner = Owner::new();
        assert!(locks.try_acquire(&path, &owner).unwrap());
        let limits = Limits { timeout: Duration::from_millis(20), ..Limits::default() };
        assert!(!locks.queue(&path, &owner).unwrap().wait(limits).await.unwrap());
        assert!(locks.lock().values().all(|state| state.waiting.is_empty()));
    }

    #[tokio::test]
    async fn the_locks_and_waiters_of_an_owner_end_with_it() {
        let (_folder, path) = lock_path();
        let locks: &'static FileLocks = Box::leak(Box::default());
        let (ended, other) = (Owner::new(), Owner::new());
        assert!(locks.try_acquire(&path, &ended).unwrap());
        let waiter = {
            let (path, ended) = (path.clone(), ended.clone());
            tokio::spawn(async move { locks.queue(&path, &ended).unwrap().wait(PATIENT).await.unwrap() })
        };
        let heir = {
            let (path, other) = (path.clone(), other.clone());
            tokio::spawn(async move { locks.queue(&path, &other).unwrap().wait(PATIENT).await.unwrap() })
        };
        while locks.lock().values().next().unwrap().waiting.len() < 2 {
            tokio::task::yield_now().await;
        }
        locks.end(&ended);
        assert!(locks.lock().values().all(|state| state.waiting.len() <= 1));
        assert!(!waiter.await.unwrap());
        assert!(heir.await.unwrap());
    }

    #[test]
    fn only_the_owner_s_lock_is_released_on_its_behalf() {
        let (_folder, path) = lock_path();
        let locks = FileLocks::default();
        let (ended, other) = (Owner::new(), Owner::new());
        assert!(locks.try_acquire(&path, &other).unwrap());
        locks.release_of(&path, &ended);
        assert!(!locks.try_acquire(&path, &ended).unwrap());
        locks.release_of(&path, &other);
        assert!(locks.try_acquire(&path, &ended).unwrap());
    }
}

//! A few connections, shared by the threads of this process.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::address::Address;
use super::failure::Failure;
use super::session::Session;
use crate::backoff::Backoff;
use crate::error::{Error, Result};

/// How many connections there are at most. Each call uses one for as long as the server needs to answer.
const LARGEST: usize = 8;
/// How long one try waits for its answer.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first and the longest pause between two tries of a call.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// Connections to a server, made when they are needed.
pub(crate) struct Pool {
    address: Address,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Session>,
    in_use: usize,
    /// What identifies the clients of calls; see [`Attempt::client`].
    clients: Vec<Uuid>,
}

/// One try of a call.
pub(crate) struct Attempt<'a> {
    pub(crate) session: &'a mut Session,
    /// By when the answer must be there.
    pub(crate) deadline: Instant,
    /// Names who sends the requests: nobody else uses it at the same time, and all tries of a call use the same. So the
    /// server can keep the last answer for each.
    pub(crate) client: Uuid,
    /// Whether an earlier try may have been done.
    pub(crate) is_repeat: bool,
}

impl Pool {
    /// A pool without connections.
    pub(crate) fn new(address: Address) -> Self {
        Self { address, state: Mutex::default(), returned: Condvar::new() }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A connection that is in nobody else's hands, nor in the pool.
    pub(crate) fn connect(&self, deadline: Instant) -> Result<Session, Failure> {
        self.address.connect(deadline)
    }

    /// Tries until it works, the failure is for good, or the deadline has passed. What may be repeated after a lost answer
    /// only is to look at [`Attempt::is_repeat`] and [`Attempt::client`]. `check` is asked before each try.
    pub(crate) fn repeat<T>(
        &self,
        deadline: impl Fn() -> Instant,
        check: impl Fn() -> Result<()>,
        mut attempt: impl FnMut(Attempt<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let mut answer = None;
        self.try_until(&deadline, &check, &mut |this| {
            answer = Some(attempt(this)?);
            Ok(())
        })?;
        answer.ok_or_else(|| Error::Defect("a call that worked has no answer".to_owned()))
    }

    /// Not generic, since all calls go through it.
    fn try_until(
        &self,
        deadline: &dyn Fn() -> Instant,
        check: &dyn Fn() -> Result<()>,
        attempt: &mut dyn FnMut(Attempt<'_>) -> Result<(), Failure>,
    ) -> Result<()> {
        let began = Instant::now();
        let client = self.lock().clients.pop().unwrap_or_else(Uuid::new_v4);
        let mut backoff = Backoff::between(PAUSES.0, PAUSES.1);
        let (mut is_repeat, mut is_fresh, mut cause) = (false, false, None);
        let failure = loop {
            check()?;
            let deadline_now = deadline().min(Instant::now() + STATEMENT_TIMEOUT);
            let result = self.take(deadline_now).and_then(|mut taken| {
                is_fresh = taken.is_fresh;
                attempt(Attempt { session: &mut taken, deadline: deadline_now, client, is_repeat })
            });
            let failure = match result {
                Ok(()) => {
                    // A try whose answer was lost may still be under way, in this client's name.
                    if !is_repeat {
                        self.lock().clients.push(client);
                    }
                    return Ok(());
                }
                Err(failure @ Failure::Refused(_)) => break failure,
                Err(failure) => failure,
            };
            let was_stale = matches!(failure, Failure::Unknown(_)) && !is_fresh;
            is_repeat |= matches!(failure, Failure::Unknown(_));
            if was_stale {
                // The server may have been started anew: then all of them are.
                self.lock().idle.clear();
            }
            let left = deadline().saturating_duration_since(Instant::now());
            if left.is_zero() {
                // The last try may have had no time for more than to run out of it.
                break cause.unwrap_or(failure);
            }
            cause = Some(failure);
            if !was_stale {
                std::thread::sleep(backoff.next_wait().min(left));
            }
        };
        Err(failure.at(&self.address, began.elapsed()))
    }

    fn take(&self, deadline: Instant) -> Result<Taken<'_>, Failure> {
        let mut state = self.lock();
        loop {
            if let Some(session) = state.idle.pop() {
                state.in_use += 1;
                return Ok(Taken { pool: self, session: Some(session), is_fresh: false });
            }
            if state.in_use < LARGEST {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::Busy("all connections of this process are in use".to_owned()));
            }
            state = self.returned.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.in_use += 1;
        drop(state);
        // Counted from here on, so a failure or a panic gives the place back.
        let mut taken = Taken { pool: self, session: None, is_fresh: true };
        taken.session = Some(self.connect(deadline)?);
        Ok(taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection of the pool, given back when dropped.
struct Taken<'a> {
    pool: &'a Pool,
    session: Option<Session>,
    is_fresh: bool,
}

impl Deref for Taken<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl DerefMut for Taken<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.in_use -= 1;
        if let Some(session) =
            self.session.take().filter(|session| !session.is_broken() && !std::thread::panicking())
        {
            state.idle.push(session);
        }
        drop(state);
        self.pool.returned.notify_one();
    }
}

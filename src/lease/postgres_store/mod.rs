//! Leases in a PostgreSQL database, for agents on several machines.
//!
//! The server's clock decides. Each call is one function of the schema, called once; if its answer is lost, it is called
//! again on another connection, and gives the answer that was lost. See `sql/`.

mod administration;
mod book;
mod claims;
mod fence;
mod figures;
mod keys;
mod listening;
mod rows;
mod server;
mod tally;
#[cfg(test)]
#[cfg(unix)]
mod tests;
mod transfer;
mod waiting;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use postgres_types::Type;
use uuid::Uuid;

use self::claims::Request;
pub(crate) use self::fence::FenceParameters;
pub(crate) use self::keys::KeyId;
use self::rows::{only, text, time_ms, value};
use self::server::Server;
use self::tally::Count;
use super::claim::{Answer, Claim, Claimed, Fence, LeaseEvent, ListedLease, Ticket};
use super::model::{Acquisition, Lease, LeaseKey, LeaseStats, LeaseTotals, Renewal, StoreHealth};
use super::patience::{Closing, Patience, Wait};
use super::presence::Presence;
use super::store::{self, LeaseStore, LeaseTerms};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::postgres::Address;
use crate::text::Text;

/// The longest duration that is sent, in milliseconds: 1,000 years, which the server's times can still hold.
const LONGEST_MS: i64 = 31_536_000_000_000;
/// Beside what, in the workspace, the processes of one machine find each other that use a server.
pub const PRESENCE_ON_SERVER: &str = "state/postgres/leases";
/// How long closing waits for the server.
const AT_CLOSE: Duration = Duration::from_millis(100);

/// A store in a schema of a PostgreSQL database, 13 or later, which all who name the schema share.
///
/// Every call waits for the network, and fails with [`Error::DatabaseLocked`] if it must not; but
/// [`holds`](LeaseStore::holds) then answers from what this process knows. What a call has answered survives the end of any process and of the server, as its `synchronous_commit` and
/// `synchronous_standby_names` say; fencing tokens never come again, also after the promotion of a standby that was
/// synchronous. Of an asynchronous one the last answers, and with them tokens, may be lost.
pub struct PostgresLeaseStore {
    server: Arc<Server>,
    is_closed: Arc<AtomicBool>,
    /// While it is open.
    presence: Mutex<Option<Arc<Presence>>>,
}

impl PostgresLeaseStore {
    /// Whether a store can be at this URL; touches nothing.
    pub fn check(url: &str) -> Result<()> {
        Address::parse(url).map(drop)
    }

    /// A store at `postgres://user:password@host:port/database?schema=driftlock&sslmode=verify-full`. Connects to nothing:
    /// the first call does, and makes or upgrades the schema.
    ///
    /// `beside` is in the folder in which processes of this machine that use the same workspace find each other.
    pub fn open(url: &str, beside: &Path, clock: &Arc<dyn Clock>) -> Result<Self> {
        let server = Server::open(url, beside, clock)?;
        figures::keep(&server);
        Ok(Self::on(server))
    }

    /// One more store on the server of this address, which is as [`LeaseStore::server`] shows it, if this process has one.
    #[must_use]
    pub fn in_use_at(address: &str) -> Option<Self> {
        Server::in_use_at(address).map(Self::on)
    }

    /// Whether somebody has made the schema. Makes none.
    pub fn exists(&self, patience: Duration) -> Result<bool> {
        self.server.is_made(Instant::now() + patience)
    }

    /// What [`LeaseStore::totals`] answers, if somebody has made the schema. Makes none.
    pub fn totals_if_any(&self, patience: Duration) -> Result<Option<LeaseTotals>> {
        if !self.exists(patience)? {
            return Ok(None);
        }
        let closing = Closing::default();
        self.totals(Wait::new(Patience::lasting(patience), &closing)).map(Some)
    }

    /// Whether the server's notifications come to this process: not through a pooler that changes connections between
    /// transactions. Tries it out, for a second at most once there is a connection.
    pub fn is_notified(&self) -> Result<bool> {
        listening::is_possible(&self.server)
    }

    fn on(server: Arc<Server>) -> Self {
        Self { server, is_closed: Arc::default(), presence: Mutex::default() }
    }

    /// How rows name this process.
    fn presence(&self) -> Result<Arc<Presence>> {
        let mut announced = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that none is left behind by closing.
        self.check_open()?;
        if let Some(presence) = &*announced {
            return Ok(Arc::clone(presence));
        }
        Ok(Arc::clone(announced.insert(self.server.announce()?)))
    }

    fn id(&self, key: LeaseKey<'_>) -> KeyId {
        KeyId::of(key, self.server.schema())
    }

    fn boot_ms(&self) -> i64 {
        self.server.clock.boot_ms()
    }

    fn count(&self, what: Count) {
        figures::count(&self.server, what, 1);
    }

    /// Has a request that got no answer taken back: else a lease might lie there until its end that nobody knows of.
    fn or_take_back<T>(&self, answer: Result<T>, request: impl FnOnce() -> Request) -> Result<T> {
        if matches!(answer, Err(Error::ServerUnreachable { .. })) {
            waiting::take_back(&self.server, request());
        }
        answer
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl LeaseStore for PostgresLeaseStore {
    fn server(&self) -> Option<String> {
        Some(self.server.pool.address().to_string())
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn is_silent_since(&self, moment: Instant) -> bool {
        self.server.is_silent_since(moment)
    }

    fn acquire(&self, key: LeaseKey<'_>, terms: LeaseTerms<'_>, wait: Wait<'_>) -> Result<Acquisition> {
        let (server, presence, id) = (&*self.server, self.presence()?, self.id(key));
        let (process, lease_id, boot_id) = (presence.name(), Uuid::new_v4(), server.clock.boot_id());
        let duration_ms = terms.duration_ms.min(LONGEST_MS);
        let asked = self.boot_ms();
        let answer = server.call(wait, |attempt| {
            let rows = server.function(
                attempt.session,
                "acquire_1",
                &[
                    (&id.lock, Type::INT8),
                    (&&id.digest[..], Type::BYTEA),
                    (&key.task.as_wtf8(), Type::BYTEA),
                    (&key.phase.as_wtf8(), Type::BYTEA),
                    (&terms.holder.as_wtf8(), Type::BYTEA),
                    (&lease_id, Type::UUID),
                    (&duration_ms, Type::INT8),
                    (&process, Type::TEXT),
                    (&boot_id, Type::TEXT),
                    (&attempt.client, Type::UUID),
                ],
                attempt.deadline,
            )?;
            let row = only(&rows)?;
            Ok(match value::<&str>(row, "r_outcome")? {
                "granted" => Some(Acquisition::Acquired(rows::lease(row, key, lease_id)?)),
                "held" => Some(Acquisition::Held {
                    holder: text(row, "r_agent")?,
                    remaining_ms: (time_ms(row, "r_expires_at")? - time_ms(row, "r_now")?).max(0),
                }),
                "wanted" => None,
                other => return Err(rows::unexpected(other)),
            })
        });
        let answer = self.or_take_back(answer, || {
            Request::with_ids(&Claim::plain(key, terms), vec![lease_id], server.schema())
        })?;
        match &answer {
            Some(Acquisition::Acquired(lease)) => {
                server.book.note(id, terms.holder, &lease.lease_id, asked.saturating_add(terms.duration_ms));
                self.count(Count::Acquired);
            }
            Some(Acquisition::Held { .. }) => self.count(Count::Contention),
            None => return self.claim(&Claim::plain(key, terms), wait).map(Acquisition::from),
        }
        answer.ok_or_else(|| Error::Defect("an acquisition without an answer".to_owned()))
    }

    fn claim(&self, claim: &Claim, wait: Wait<'_>) -> Result<Claimed> {
        let presence = self.presence()?;
        let request = Request::new(claim, self.server.schema());
        let answer = claims::claim(&self.server, &request, presence.name(), wait);
        let answer = self.or_take_back(answer, || request.clone())?;
        match &answer {
            // One that waits is counted with its answer.
            Claimed::Refused { ticket: Some(ticket), .. } => self.server.room.expect(*ticket, request),
            Claimed::Refused { .. } => self.count(Count::Contention),
            Claimed::Granted(leases) => figures::count(&self.server, Count::Acquired, leases.len() as u64),
            Claimed::NothingToGiveUp => {}
        }
        Ok(answer)
    }

    fn await_turn(&self, ticket: Ticket, _: Claim, answer: Answer) {
        let presence = self.presence();
        let request = self.server.room.expected(ticket);
        match (presence, request) {
            (Ok(presence), Some(request)) => {
                let closed = Arc::clone(&self.is_closed);
                waiting::enter(&self.server, ticket, request, presence, closed, answer);
            }
            (Ok(_), None) => {
                answer(Err(Error::Defect(format!("no claim has ticket {}", ticket.0))));
            }
            (Err(error), _) => answer(Err(error)),
        }
    }

    fn cancel(&self, ticket: Ticket) {
        self.server.room.cancel(ticket);
    }

    fn renew(
        &self,
        key: LeaseKey<'_>,
        terms: LeaseTerms<'_>,
        max_renewals: u64,
        wait: Wait<'_>,
    ) -> Result<Renewal> {
        let (server, presence, id) = (&*self.server, self.presence()?, self.id(key));
        let (process, request, boot_id) = (presence.name(), Uuid::new_v4(), server.clock.boot_id());
        let duration_ms = terms.duration_ms.min(LONGEST_MS);
        let max_renewals = i64::try_from(max_renewals).unwrap_or(i64::MAX);
        let asked = self.boot_ms();
        let (renewal, lease_id) = server.call(wait, |attempt| {
            let rows = server.function(
                attempt.session,
                "renew_1",
                &[
                    (&&id.digest[..], Type::BYTEA),
                    (&terms.holder.as_wtf8(), Type::BYTEA),
                    (&duration_ms, Type::INT8),
                    (&max_renewals, Type::INT8),
                    (&request, Type::UUID),
                    (&process, Type::TEXT),
                    (&boot_id, Type::TEXT),
                ],
                attempt.deadline,
            )?;
            let row = only(&rows)?;
            Ok(match value::<&str>(row, "r_outcome")? {
                "renewed" => {
                    let expires_at_ms = time_ms(row, "r_expires_at")?;
                    (Renewal::Renewed { expires_at_ms }, value::<Option<Uuid>>(row, "r_lease_id")?)
                }
                "exceeded" => (Renewal::MaxRenewalsExceeded, None),
                "not held" => (Renewal::NotHeld, None),
                other => return Err(rows::unexpected(other)),
            })
        })?;
        self.count(match renewal {
            Renewal::Renewed { .. } => Count::Renewed,
            Renewal::NotHeld | Renewal::MaxRenewalsExceeded => Count::RenewalsRefused,
        });
        match (renewal, lease_id) {
            (Renewal::Renewed { .. }, Some(lease_id)) => {
                let deadline = asked.saturating_add(terms.duration_ms);
                server.book.note(id, terms.holder, &lease_id.to_string(), deadline);
            }
            (Renewal::NotHeld, _) => {
                server.book.strike(id, terms.holder, None);
            }
            _ => {}
        }
        Ok(renewal)
    }

    fn extend(&self, key: LeaseKey<'_>, lease_id: &str, duration_ms: i64, wait: Wait<'_>) -> Result<bool> {
        let (server, presence, id) = (&*self.server, self.presence()?, self.id(key));
        let (process, boot_id) = (presence.name(), server.clock.boot_id());
        let (lease, sent_ms) = (uuid_of(lease_id), duration_ms.min(LONGEST_MS));
        let asked = self.boot_ms();
        let is_there = server.call(wait, |attempt| {
            let rows = server.function(
                attempt.session,
                "extend_1",
                &[
                    (&&id.digest[..], Type::BYTEA),
                    (&lease, Type::UUID),
                    (&sent_ms, Type::INT8),
                    (&process, Type::TEXT),
                    (&boot_id, Type::TEXT),
                ],
                attempt.deadline,
            )?;
            value::<bool>(only(&rows)?, "extend_1")
        })?;
        self.count(if is_there { Count::Renewed } else { Count::RenewalsRefused });
        if is_there {
            server.book.prolong(id, lease_id, asked.saturating_add(duration_ms));
        }
        Ok(is_there)
    }

    fn release(
        &self,
        key: LeaseKey<'_>,
        holder: &Text,
        lease_id: Option<&str>,
        wait: Wait<'_>,
    ) -> Result<bool> {
        self.check_open()?;
        let (server, id, request) = (&*self.server, self.id(key), Uuid::new_v4());
        let lease = lease_id.map(uuid_of);
        if wait.patience() != Patience::Now {
            server.book.strike(id, holder, lease_id);
        }
        let released = server.call(wait, |attempt| {
            let rows = server.function(
                attempt.session,
                "release_1",
                &[
                    (&id.lock, Type::INT8),
                    (&&id.digest[..], Type::BYTEA),
                    (&holder.as_wtf8(), Type::BYTEA),
                    (&lease, Type::UUID),
                    (&attempt.client, Type::UUID),
                    (&request, Type::UUID),
                    (&attempt.is_repeat, Type::BOOL),
                ],
                attempt.deadline,
            )?;
            value::<i64>(only(&rows)?, "release_1")
        })?;
        server.room.nudge();
        Ok(released > 0)
    }

    fn release_all(&self, holder: &Text, wait: Wait<'_>) -> Result<u64> {
        self.check_open()?;
        let (server, request) = (&*self.server, Uuid::new_v4());
        if wait.patience() != Patience::Now {
            server.book.strike_all(holder);
        }
        let released = server.call(wait, |attempt| {
            let rows = server.function(
                attempt.session,
                "release_all_1",
                &[
                    (&holder.as_wtf8(), Type::BYTEA),
                    (&attempt.client, Type::UUID),
                    (&request, Type::UUID),
                    (&attempt.is_repeat, Type::BOOL),
                ],
                attempt.deadline,
            )?;
            rows::count(only(&rows)?, "release_all_1")
        })?;
        server.room.nudge();
        Ok(released)
    }

    fn force_release(
        &self,
        key: LeaseKey<'_>,
        by: &Text,
        reason: &Text,
        wait: Wait<'_>,
    ) -> Result<Option<Lease>> {
        self.check_open()?;
        let released = administration::force_release(&self.server, self.id(key), key, by, reason, wait)?;
        if released.is_some() {
            self.server.book.strike_key(self.id(key));
        }
        self.server.room.nudge();
        Ok(released)
    }

    fn fenced(&self, fence: &Fence, work: &mut dyn FnMut() -> Result<()>, wait: Wait<'_>) -> Result<()> {
        self.check_open()?;
        administration::fenced(&self.server, self.id(fence.key.as_key()), fence, work, wait)?
    }

    /// Fails with [`Error::WouldBlock`] if it must not block.
    fn get(&self, key: LeaseKey<'_>, wait: Wait<'_>) -> Result<Option<Lease>> {
        self.check_open()?;
        if wait.patience() == Patience::Now {
            return Err(Error::WouldBlock {
                server: self.server.pool.address().to_string(),
                instead: "await getLeaseAsync(), or ask holdsLease() about a lease of this agent's own",
            });
        }
        administration::get(&self.server, self.id(key), key, wait)
    }

    /// If it must not block, as far as this process knows: whether it was granted the lease, or renewed it, so short a time
    /// ago that it can't have ended. A forced release then shows up only with the next renewal.
    fn holds(&self, key: LeaseKey<'_>, holder: &Text, wait: Wait<'_>) -> Result<bool> {
        self.check_open()?;
        match wait.patience() {
            Patience::Now => Ok(self.server.book.holds(self.id(key), holder, self.boot_ms())),
            Patience::Until(_) => administration::holds(&self.server, self.id(key), holder, wait),
        }
    }

    fn list(&self, wait: Wait<'_>) -> Result<Vec<ListedLease>> {
        self.check_open()?;
        administration::list(&self.server, wait)
    }

    fn latest_event(&self, wait: Wait<'_>) -> Result<i64> {
        self.check_open()?;
        administration::latest_event(&self.server, wait)
    }

    fn events_after(&self, id: i64, wait: Wait<'_>) -> Result<Vec<LeaseEvent>> {
        self.check_open()?;
        administration::events_after(&self.server, id, wait)
    }

    fn stats(&self, wait: Wait<'_>) -> Result<LeaseStats> {
        self.check_open()?;
        figures::stats(&self.server, wait)
    }

    fn totals(&self, wait: Wait<'_>) -> Result<LeaseTotals> {
        self.check_open()?;
        figures::totals(&self.server, wait)
    }

    fn highest_token(&self, wait: Wait<'_>) -> Result<i64> {
        self.check_open()?;
        transfer::highest_token(&self.server, wait)
    }

    fn take_in(&self, leases: &[ListedLease], above: i64, wait: Wait<'_>) -> Result<()> {
        self.check_open()?;
        transfer::take_in(&self.server, leases, above, wait)
    }

    fn count_failure(&self, request: store::Request) {
        self.count(match request {
            store::Request::Acquisition => Count::AcquireErrors,
            store::Request::Renewal => Count::RenewalErrors,
        });
    }

    fn health(&self, wait: Wait<'_>) -> Result<StoreHealth> {
        self.check_open()?;
        administration::health(&self.server, wait)
    }

    fn close(&self) {
        if !self.is_closed.swap(true, Ordering::AcqRel) {
            self.server.room.dismiss(&self.is_closed);
            figures::store(&self.server, AT_CLOSE);
            // What this process leaves held is not for others to take from the dead.
            self.presence.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

/// An id that is no UUID is of no lease.
fn uuid_of(lease_id: &str) -> Uuid {
    Uuid::parse_str(lease_id).unwrap_or_default()
}

//! `PhaseLeaseManager`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Null, PromiseRaw, ToNapiValue, Unknown};
use napi::{Either, Env};
use napi_derive::napi;

use super::arguments::{
    Fields, JsText, durability, js_text, non_empty_text, number, path, text, whole_number,
};
use super::call::{Pending, at_once, settled, workspace_path, would_block};
use super::errors::{Family, to_js};
use super::place::{LeaseHealth, network_policy};
use crate::clock::{SystemClock, iso_timestamp};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::lease::{Acquisition, Lease, LeaseManager, LeaseOptions, Renewal};
use crate::log;
use crate::patience::Patience;
use crate::place::{self, SystemProbe};
use crate::text::Text;

/// How long a call waits while another process holds the database's write lock.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a look-up that answers at once tries when another process is just repairing the database's log.
const LONGEST_READ: Duration = Duration::from_millis(100);
/// How long calls that were made before `close`, all together, may still wait for another process.
const BUSY_AT_CLOSE: Duration = Duration::from_millis(8);
/// How long `close` waits for one call that doesn't get on: the machine may be too busy to run its thread.
const STALLED: Duration = Duration::from_secs(1);
/// The longest duration of a lease, in seconds: 100 years.
const LONGEST_LEASE: f64 = 3_153_600_000.0;

/// The right of one agent to work on a phase of a task.
#[napi(object, object_from_js = false)]
pub struct PhaseLease {
    /// Names this lease (UUID). It stays the same when the lease is renewed.
    #[napi(js_name = "lease_id")]
    pub lease_id: String,
    /// The task.
    #[napi(js_name = "task_id", ts_type = "string")]
    pub task_id: JsText,
    /// The phase.
    #[napi(ts_type = "WorkPhase")]
    pub phase: JsText,
    /// The holder.
    #[napi(js_name = "agent_id", ts_type = "string")]
    pub agent_id: JsText,
    /// When it was acquired (ISO 8601, milliseconds, Z).
    #[napi(js_name = "acquired_at")]
    pub acquired_at: String,
    /// When it ends unless it is renewed (ISO 8601, milliseconds, Z). By the wall clock at the time it was written;
    /// what counts is the time that passes, so setting the clock neither ends nor prolongs a lease.
    #[napi(js_name = "expires_at")]
    pub expires_at: String,
    /// How often it was renewed.
    #[napi(js_name = "renewed_count")]
    pub renewed_count: f64,
    /// A whole number that is higher than that of every earlier lease of this task and phase, over releases,
    /// expiries, restarts, clock changes and power cuts. Whoever guards a resource can refuse a holder whose token
    /// is not the highest it has seen (Kleppmann, "How to do distributed locking", 2016).
    #[napi(js_name = "fencing_token")]
    pub fencing_token: f64,
}

/// The answer to an attempt to acquire a lease.
#[napi(object, object_from_js = false)]
pub struct LeaseAcquisitionResult {
    /// Whether the caller has the lease now.
    pub acquired: bool,
    /// The lease, if it was acquired.
    pub lease: Option<PhaseLease>,
    /// Why it was not acquired: `'Lease already held by another agent'` or `'Internal error: …'`.
    pub reason: Option<String>,
    /// Who holds it, if somebody does.
    #[napi(ts_type = "string")]
    pub holder: Option<JsText>,
    /// In how many whole seconds the holder's lease ends, rounded down, never negative.
    pub expires_in: Option<f64>,
}

/// The answer to an attempt to renew a lease.
#[napi(object, object_from_js = false)]
pub struct LeaseRenewalResult {
    /// Whether the lease was renewed.
    pub renewed: bool,
    /// When it ends now (ISO 8601, milliseconds, Z), if it was renewed.
    pub expires_at: Option<String>,
    /// Why it was not renewed: `'Lease not held by this agent'`, `'Max renewals (N) exceeded'` or
    /// `'Internal error: …'`.
    pub reason: Option<String>,
}

/// The state of all leases of a workspace.
#[napi(object, object_from_js = false)]
pub struct LeaseStats {
    /// The leases in the table.
    pub total_leases: f64,
    /// Those of them that have not ended.
    pub active_leases: f64,
    /// Those of them that have ended and that nobody has taken over or released.
    pub expired_leases: f64,
    /// The mean duration, in seconds, of all holds that are over; 0 if none is. It may lag by a second.
    pub average_hold_time: f64,
    /// The highest number of renewals among the leases in the table.
    pub max_renewals: f64,
    /// How many acquisitions, of all processes, were refused because the lease was held. It may lag by a second.
    pub contention_events: f64,
}

/// Phase leases: at most one agent at a time in each phase of a task, among all processes of a machine that use the
/// workspace.
///
/// Leases are kept in `<workspaceRoot>/state/orchestrator.db` (SQLite, WAL, `synchronous = NORMAL`), which may also be
/// used by other code. A lease survives the death of its holder's process and then ends by its duration. A power cut
/// ends all leases, whatever `durability` says: none of the boot before keeps anybody out, and no fencing token is
/// repeated. Without `durability: 'sync'` the last changes before it may be lost, with it what was acknowledged is
/// in the database. Calls of one manager take effect in the order in which they are made, also if they are not
/// awaited.
///
/// A lease can end while its holder still works. Only a fencing token protects what the holder writes then.
#[napi]
pub struct PhaseLeaseManager {
    manager: Arc<LeaseManager>,
    lane: Arc<Lane<Box<dyn FnOnce() + Send>>>,
    max_renewals: u64,
}

#[napi]
impl PhaseLeaseManager {
    /// Opens the workspace's database, and makes it, its table and its folder where they are absent.
    ///
    /// @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
    /// @param options who the holder is, how long its leases last, and what they survive
    /// @throws {LeaseError} `INVALID_ARGUMENT` for bad arguments, before anything is touched; `IO` or `DATABASE` if
    /// the database can't be opened, `DATABASE_LOCKED` if other processes keep it busy; `NETWORK_FILE_SYSTEM`
    /// where `networkFileSystem: 'refuse'` says so, before anything is touched
    #[napi(constructor, ts_args_type = "workspaceRoot: string, options?: PhaseLeaseOptions", catch_unwind)]
    pub fn new(env: Env, workspace_root: Unknown<'_>, options: Option<Unknown<'_>>) -> napi::Result<Self> {
        let open = || {
            let root = workspace_path(path(workspace_root, "workspaceRoot")?);
            let policy = network_policy(options)?;
            let options = lease_options(options)?;
            let max_renewals = options.max_renewals;
            place::admit(&root, &root.join("state/orchestrator.db"), policy, &SystemProbe)?;
            let manager = LeaseManager::open(&root, options, Arc::new(SystemClock))?;
            Ok((manager, max_renewals))
        };
        let (manager, max_renewals) = open().map_err(|error| to_js(&env, Family::Lease, &error))?;
        let lane = Lane::new(1, |jobs: Vec<Box<dyn FnOnce() + Send>>| jobs.into_iter().for_each(|job| job()));
        Ok(Self { manager: Arc::new(manager), lane, max_renewals })
    }

    /// Acquires the lease of a task and phase, unless somebody holds it; this agent too is refused while it holds it.
    /// A lease that has ended is anybody's to acquire.
    ///
    /// A failure of the store is an answer (`'Internal error: …'`), also after `close()`. While another process holds
    /// the database's write lock the call waits, off the JavaScript thread, for up to 5 s. Rejects with a
    /// {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type only.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "Promise<LeaseAcquisitionResult>",
        catch_unwind
    )]
    pub fn acquire_lease<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, LeaseAcquisitionResult>> {
        self.with_key(
            env,
            task_id,
            phase,
            |manager, task, phase, patience| manager.acquire(task, phase, patience).map(Into::into),
            |error| LeaseAcquisitionResult {
                acquired: false,
                lease: None,
                reason: Some(internal_error(error)),
                holder: None,
                expires_in: None,
            },
        )
    }

    /// Prolongs the lease that this agent holds: it ends one duration from now. One that has ended can be renewed as
    /// long as nobody else has acquired it.
    ///
    /// A failure of the store is an answer. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a
    /// wrong type only.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "Promise<LeaseRenewalResult>",
        catch_unwind
    )]
    pub fn renew_lease<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, LeaseRenewalResult>> {
        let max_renewals = self.max_renewals;
        self.with_key(
            env,
            task_id,
            phase,
            move |manager, task, phase, patience| {
                let renewal = manager.renew(task, phase, patience)?;
                Ok(match renewal {
                    Renewal::Renewed { expires_at_ms } => LeaseRenewalResult {
                        renewed: true,
                        expires_at: Some(iso_timestamp(expires_at_ms)),
                        reason: None,
                    },
                    Renewal::NotHeld => not_renewed("Lease not held by this agent".to_owned()),
                    Renewal::MaxRenewalsExceeded => {
                        not_renewed(format!("Max renewals ({max_renewals}) exceeded"))
                    }
                })
            },
            |error| not_renewed(internal_error(error)),
        )
    }

    /// Gives a lease back. Resolves to true if this agent held it, also if it had ended; to false if not, or if the
    /// store failed (the log says so). Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a
    /// wrong type only.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "Promise<boolean>",
        catch_unwind
    )]
    pub fn release_lease<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, bool>> {
        self.with_key(env, task_id, phase, LeaseManager::release, |error| failed(error, "released", false))
    }

    /// Gives back all leases of this agent. Resolves to their number; to 0 if the store failed (the log says so).
    #[napi(ts_return_type = "Promise<number>", catch_unwind)]
    pub fn release_all_leases<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, f64>> {
        self.run(
            env,
            |manager, patience| manager.release_all(patience).map(count),
            |error| failed(error, "released", 0.0),
        )
    }

    /// Whether this agent holds the lease now: it has acquired it, and it has not ended. False if the store fails
    /// (the log says so) and for arguments of a wrong type.
    #[napi(ts_args_type = "taskId: string, phase: WorkPhase | (string & {})", catch_unwind)]
    pub fn holds_lease(&self, task_id: Unknown<'_>, phase: Unknown<'_>) -> bool {
        key(task_id, phase)
            .and_then(|(task, phase)| self.manager.holds(&task, &phase, Patience::lasting(LONGEST_READ)))
            .unwrap_or_else(|error| failed(&error, "looked up", false))
    }

    /// The lease of a task and phase, whoever holds it and also if it has ended; null if there is none, if the store
    /// fails (the log says so) and for arguments of a wrong type.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "PhaseLease | null",
        catch_unwind
    )]
    pub fn get_lease(&self, task_id: Unknown<'_>, phase: Unknown<'_>) -> Either<PhaseLease, Null> {
        key(task_id, phase)
            .and_then(|(task, phase)| self.manager.get(&task, &phase, Patience::lasting(LONGEST_READ)))
            .map_or_else(|error| failed(&error, "looked up", Either::B(Null)), or_null)
    }

    /// {@link PhaseLeaseManager.holdsLease}, after all calls made before it, and never on the JavaScript thread if it
    /// would have to wait. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "Promise<boolean>",
        catch_unwind
    )]
    pub fn holds_lease_async<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, bool>> {
        self.with_key(env, task_id, phase, LeaseManager::holds, |error| failed(error, "looked up", false))
    }

    /// {@link PhaseLeaseManager.getLease}, after all calls made before it, and never on the JavaScript thread if it
    /// would have to wait. Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for arguments of a wrong type.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "Promise<PhaseLease | null>",
        catch_unwind
    )]
    pub fn get_lease_async<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, Either<PhaseLease, Null>>> {
        self.with_key(
            env,
            task_id,
            phase,
            |manager, task, phase, patience| manager.get(task, phase, patience).map(or_null),
            |error| failed(error, "looked up", Either::B(Null)),
        )
    }

    /// The state of all leases of the workspace; zeros without any, and if the store fails (the log says so).
    #[napi(ts_return_type = "Promise<LeaseStats>", catch_unwind)]
    pub fn get_stats<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, LeaseStats>> {
        self.run(
            env,
            |manager, patience| manager.stats(patience).map(LeaseStats::from),
            |error| failed(error, "counted", LeaseStats::from(crate::lease::LeaseStats::default())),
        )
    }

    /// How the database is and what can be promised where it is, for those who operate it. Rejects with a
    /// {@link LeaseError}: `CLOSED` after `close()`, `IO` or `DATABASE` if the database can't be read.
    #[napi(ts_return_type = "Promise<LeaseHealth>", catch_unwind)]
    pub fn health<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, LeaseHealth>> {
        self.answer(env, |manager, patience| manager.health(patience).map(LeaseHealth::from))
    }

    /// Lets go of the database; the leases stay. May be called again. Calls made before it that were not awaited
    /// still take effect, unless another process keeps the database busy; calls after it answer as on a failure of
    /// the store. Once it returns, nothing is written below the workspace any more.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.manager.begin_closing(Instant::now() + BUSY_AT_CLOSE);
        self.lane.drain(STALLED);
        self.manager.close();
    }
}

impl PhaseLeaseManager {
    /// Runs an operation on a lease; what keeps it from its answer becomes another answer.
    fn with_key<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
        work: impl Fn(&LeaseManager, &Text, &Text, Patience) -> Result<T> + Send + 'static,
        otherwise: impl Fn(&Error) -> T + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        match key(task_id, phase) {
            Ok((task, phase)) => {
                self.run(env, move |manager, patience| work(manager, &task, &phase, patience), otherwise)
            }
            Err(error) => settled(env, Family::Lease, Err(error)),
        }
    }

    fn run<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        work: impl Fn(&LeaseManager, Patience) -> Result<T> + Send + 'static,
        otherwise: impl Fn(&Error) -> T + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        self.answer(env, move |manager, patience| match work(manager, patience) {
            Err(error) if patience == Patience::Now && would_block(&error) => Err(error),
            result => Ok(result.unwrap_or_else(|error| otherwise(&error))),
        })
    }

    fn answer<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        work: impl Fn(&LeaseManager, Patience) -> Result<T> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        if let Some(result) = at_once(&self.lane, || work(&self.manager, Patience::Now)) {
            return settled(env, Family::Lease, result);
        }
        let (pending, promise) = Pending::new(env, Family::Lease)?;
        let manager = Arc::clone(&self.manager);
        let patience = Patience::Until(Instant::now() + PATIENCE);
        self.lane.push(Box::new(move || {
            pending.settle(work(&manager, patience).map_err(Arc::new));
        }));
        Ok(promise)
    }
}

fn key(task_id: Unknown<'_>, phase: Unknown<'_>) -> Result<(Text, Text)> {
    Ok((text(task_id, "taskId")?, text(phase, "phase")?))
}

fn lease_options(options: Option<Unknown<'_>>) -> Result<LeaseOptions> {
    let fields = Fields::optional(options, "options")?;
    let seconds = |value: Unknown<'_>, name| {
        number(value, name, "a number of seconds greater than 0", |number| number > 0.0)?;
        number(value, name, "at most 3153600000 seconds (100 years)", |number| number <= LONGEST_LEASE)
    };
    let duration = fields.read("leaseDuration", seconds)?.unwrap_or(300.0);
    #[allow(clippy::cast_possible_truncation, reason = "at most LONGEST_LEASE")]
    let lease_duration_ms = ((duration * 1000.0).round() as i64).max(1);
    Ok(LeaseOptions {
        lease_duration_ms,
        max_renewals: fields.read("maxRenewals", whole_number)?.unwrap_or(10),
        agent_id: fields.read("agentId", non_empty_text)?.unwrap_or_else(default_agent_id),
        durability: fields.read("durability", durability)?.unwrap_or_default(),
    })
}

/// `<HOSTNAME or unknown>-<pid>-<8 hex digits>`
fn default_agent_id() -> Text {
    let host = std::env::var("HOSTNAME").ok().filter(|host| !host.is_empty());
    let random = &uuid::Uuid::new_v4().simple().to_string()[..8];
    format!("{}-{}-{random}", host.as_deref().unwrap_or("unknown"), std::process::id()).into()
}

fn internal_error(error: &Error) -> String {
    format!("Internal error: {error}")
}

fn not_renewed(reason: String) -> LeaseRenewalResult {
    LeaseRenewalResult { renewed: false, expires_at: None, reason: Some(reason) }
}

/// Answers `otherwise`, and says in the log why.
fn failed<T>(error: &Error, what: &str, otherwise: T) -> T {
    let message = format!("Leases could not be {what}");
    log::warning(&message, &[("code", error.code()), ("error", &error.to_string())]);
    otherwise
}

fn or_null(lease: Option<Lease>) -> Either<PhaseLease, Null> {
    lease.map_or(Either::B(Null), |lease| Either::A(lease.into()))
}

#[allow(clippy::cast_precision_loss, reason = "counts of leases stay far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

impl From<Acquisition> for LeaseAcquisitionResult {
    fn from(acquisition: Acquisition) -> Self {
        match acquisition {
            Acquisition::Acquired(lease) => Self {
                acquired: true,
                lease: Some(lease.into()),
                reason: None,
                holder: None,
                expires_in: None,
            },
            Acquisition::Held { holder, remaining_ms } => Self {
                acquired: false,
                lease: None,
                reason: Some("Lease already held by another agent".to_owned()),
                holder: Some(js_text(&holder)),
                expires_in: Some(count(u64::try_from(remaining_ms / 1000).unwrap_or(0))),
            },
        }
    }
}

impl From<Lease> for PhaseLease {
    fn from(lease: Lease) -> Self {
        Self {
            lease_id: lease.lease_id,
            task_id: js_text(&lease.task_id),
            phase: js_text(&lease.phase),
            agent_id: js_text(&lease.agent_id),
            acquired_at: lease.acquired_at,
            expires_at: lease.expires_at,
            renewed_count: count(lease.renewed_count),
            fencing_token: count(u64::try_from(lease.fencing_token).unwrap_or(0)),
        }
    }
}

impl From<crate::lease::LeaseStats> for LeaseStats {
    fn from(stats: crate::lease::LeaseStats) -> Self {
        Self {
            total_leases: count(stats.total_leases),
            active_leases: count(stats.active_leases),
            expired_leases: count(stats.expired_leases),
            average_hold_time: stats.average_hold_time_s,
            max_renewals: count(stats.max_renewals),
            contention_events: count(stats.contention_events),
        }
    }
}

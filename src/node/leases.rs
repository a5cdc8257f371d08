//! `PhaseLeaseManager`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Null, PromiseRaw, ToNapiValue, Unknown};
use napi::{Either, Env};
use napi_derive::napi;

use super::arguments::{
    Fields, boolean, durability, invalid, non_empty_text, number, path, text, whole_number,
};
use super::call::{Pending, at_once, settled, workspace_path, would_block};
use super::errors::{Family, to_js};
use super::health::{LeaseHealth, health};
use super::lease_shapes::{LeaseAcquisitionResult, LeaseRenewalResult, LeaseStats, PhaseLease, count};
use super::place::network_policy;
use super::store::Store;
use crate::clock::iso_timestamp;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::lease::{Lease, LeaseManager, LeaseOptions, Renewal};
use crate::log;
use crate::metrics::{self, Operation};
use crate::patience::Patience;
use crate::text::Text;

/// How long a call waits while another process holds the database's write lock.
pub(super) const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a look-up that answers at once tries when another process is just repairing the database's log.
const LONGEST_READ: Duration = Duration::from_millis(100);
/// How long calls that were made before `close`, all together, may still wait for another process.
const BUSY_AT_CLOSE: Duration = Duration::from_millis(8);
/// How long `close` waits for one call that doesn't get on: the machine may be too busy to run its thread.
const STALLED: Duration = Duration::from_secs(1);
/// Both, for calls over the network.
const AT_REMOTE_CLOSE: Duration = Duration::from_millis(250);
/// The longest duration of a lease, in seconds: 100 years.
const LONGEST_LEASE: f64 = 3_153_600_000.0;

/// Phase leases: at most one agent at a time in each phase of a task, among all processes of a machine that use the
/// workspace.
///
/// Leases are kept in `<workspaceRoot>/state/orchestrator.db` (SQLite, WAL, `synchronous = NORMAL`), which may also be
/// used by other code; with the option `store` in a schema of a PostgreSQL database, for agents on several machines. The
/// calls are the same there, but those that answer at once can't ask a server: {@link PhaseLeaseManager.holdsLease}
/// answers from what this process knows, {@link PhaseLeaseManager.getLease} throws `WOULD_BLOCK`.
///
/// A lease survives the death of its holder's process and then ends by its duration. A power cut
/// ends all leases, whatever `durability` says: none of the boot before keeps anybody out, and no fencing token is
/// repeated. Without `durability: 'sync'` the last changes before it may be lost, with it what was acknowledged is
/// in the database. Calls of one manager take effect in the order in which they are made, also if they are not
/// awaited.
///
/// A lease can end while its holder still works. Only a fencing token protects what the holder writes then.
#[napi]
pub struct PhaseLeaseManager {
    pub(super) manager: Arc<LeaseManager>,
    pub(super) lane: Arc<Lane<Box<dyn FnOnce() + Send>>>,
    max_renewals: u64,
    pub(super) lease_duration_ms: i64,
    pub(super) workspace: PathBuf,
}

#[napi]
impl PhaseLeaseManager {
    /// Opens the workspace's database, and makes it, its table and its folder where they are absent. With a server as its
    /// store it connects to nothing: the first call does, and makes the schema where it is absent.
    ///
    /// @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
    /// @param options who the holder is, how long its leases last, and what they survive
    /// @throws {LeaseError} `INVALID_ARGUMENT` for bad arguments, before anything is touched; `IO` or `DATABASE` if
    /// the database can't be opened, `DATABASE_LOCKED` if other processes keep it busy; `SERVER` if the certificates to
    /// trust can't be read; `NETWORK_FILE_SYSTEM` where `networkFileSystem: 'refuse'` says so, before anything is touched
    #[napi(constructor, ts_args_type = "workspaceRoot: string, options?: PhaseLeaseOptions", catch_unwind)]
    pub fn new(env: Env, workspace_root: Unknown<'_>, options: Option<Unknown<'_>>) -> napi::Result<Self> {
        let open = || {
            let root = workspace_path(path(workspace_root, "workspaceRoot")?);
            let policy = network_policy(options)?;
            let store = Store::of_options(options)?;
            let options = lease_options(options)?;
            let (max_renewals, duration_ms) = (options.max_renewals, options.lease_duration_ms);
            let manager = store.leases(&root, policy, options)?;
            Ok((manager, max_renewals, duration_ms, root))
        };
        let (manager, max_renewals, lease_duration_ms, workspace) =
            open().map_err(|error| to_js(&env, Family::Lease, &error))?;
        let lane = Lane::new(1, |jobs: Vec<Box<dyn FnOnce() + Send>>| jobs.into_iter().for_each(|job| job()));
        Ok(Self { manager: Arc::new(manager), lane, max_renewals, lease_duration_ms, workspace })
    }

    /// The workspace's folder, as an absolute path.
    #[napi(getter, catch_unwind)]
    pub fn workspace(&self) -> String {
        self.workspace.to_string_lossy().into_owned()
    }

    /// Where leases are kept: `'sqlite'`, or the server's address, database and schema, without credentials.
    #[napi(getter, catch_unwind)]
    pub fn store(&self) -> String {
        self.manager.server().unwrap_or_else(|| "sqlite".to_owned())
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
            Operation::Acquire,
            task_id,
            phase,
            |manager, task, phase, patience| manager.acquire(task, phase, patience).map(Into::into),
            |error| LeaseAcquisitionResult::refused(internal_error(error)),
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
            Operation::Renew,
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
        self.with_key(env, Operation::Release, task_id, phase, LeaseManager::release, |error| {
            failed(error, "released", false)
        })
    }

    /// Gives back all leases of this agent. Resolves to their number; to 0 if the store failed (the log says so).
    #[napi(ts_return_type = "Promise<number>", catch_unwind)]
    pub fn release_all_leases<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, f64>> {
        self.run(
            env,
            Operation::ReleaseAll,
            |manager, patience| manager.release_all(patience).map(count),
            |error| failed(error, "released", 0.0),
        )
    }

    /// Whether this agent holds the lease now: it has acquired it, and it has not ended. False if the store fails
    /// (the log says so) and for arguments of a wrong type.
    ///
    /// With a server as its store it asks nobody: it answers whether this process was granted the lease, or renewed it,
    /// so short a time ago that nobody else can have it. What another process of the same agent id holds it does not know,
    /// and of a forced release it learns with the next renewal; {@link PhaseLeaseManager.holdsLeaseAsync} asks the server.
    #[napi(ts_args_type = "taskId: string, phase: WorkPhase | (string & {})", catch_unwind)]
    pub fn holds_lease(&self, task_id: Unknown<'_>, phase: Unknown<'_>) -> bool {
        key(task_id, phase)
            .and_then(|(task, phase)| self.manager.holds(&task, &phase, self.at_once()))
            .inspect_err(metrics::error)
            .unwrap_or_else(|error| failed(&error, "looked up", false))
    }

    /// The lease of a task and phase, whoever holds it and also if it has ended; null if there is none, if the store
    /// fails (the log says so) and for arguments of a wrong type.
    ///
    /// @throws {LeaseError} `WOULD_BLOCK` with a server as its store: {@link PhaseLeaseManager.getLeaseAsync} asks it
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {})",
        ts_return_type = "PhaseLease | null",
        catch_unwind
    )]
    pub fn get_lease(
        &self,
        env: Env,
        task_id: Unknown<'_>,
        phase: Unknown<'_>,
    ) -> napi::Result<Either<PhaseLease, Null>> {
        match key(task_id, phase).and_then(|(task, phase)| self.manager.get(&task, &phase, self.at_once())) {
            Ok(lease) => Ok(or_null(lease)),
            Err(error @ Error::WouldBlock { .. }) => Err(to_js(&env, Family::Lease, &error)),
            Err(error) => {
                metrics::error(&error);
                Ok(failed(&error, "looked up", Either::B(Null)))
            }
        }
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
        self.with_key(env, Operation::LookUp, task_id, phase, LeaseManager::holds, |error| {
            failed(error, "looked up", false)
        })
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
            Operation::LookUp,
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
            Operation::Stats,
            |manager, patience| manager.stats(patience).map(LeaseStats::from),
            |error| failed(error, "counted", LeaseStats::from(crate::lease::LeaseStats::default())),
        )
    }

    /// How the store is and what can be promised where it is, for those who operate it. Rejects with a
    /// {@link LeaseError}: `CLOSED` after `close()`, `IO` or `DATABASE` if the database can't be read, `SERVER` or
    /// `SERVER_UNREACHABLE` if the server can't.
    #[napi(ts_return_type = "Promise<LeaseHealth>", catch_unwind)]
    pub fn health<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, LeaseHealth>> {
        self.answer(env, Operation::Stats, |manager, patience| manager.health(patience).map(health))
    }

    /// Lets go of the database; the leases stay. May be called again. Calls made before it that were not awaited
    /// still take effect, unless another process keeps the database busy; calls after it answer as on a failure of
    /// the store. Once it returns, nothing is written below the workspace any more. A server that does not answer is
    /// waited for half a second at most; what it was asked before may still take effect.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        let (busy, stalled) = if self.manager.is_remote() {
            (AT_REMOTE_CLOSE, AT_REMOTE_CLOSE)
        } else {
            (BUSY_AT_CLOSE, STALLED)
        };
        self.manager.begin_closing(Instant::now() + busy);
        self.lane.drain(stalled);
        self.manager.close();
    }
}

impl PhaseLeaseManager {
    /// How long a look-up may take that answers at once.
    fn at_once(&self) -> Patience {
        if self.manager.is_remote() { Patience::Now } else { Patience::lasting(LONGEST_READ) }
    }

    /// Runs an operation on a lease; what keeps it from its answer becomes another answer.
    fn with_key<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
        work: impl Fn(&LeaseManager, &Text, &Text, Patience) -> Result<T> + Send + 'static,
        otherwise: impl Fn(&Error) -> T + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        match key(task_id, phase) {
            Ok((task, phase)) => {
                let work = move |manager: &_, patience| work(manager, &task, &phase, patience);
                self.run(env, operation, work, otherwise)
            }
            Err(error) => settled(env, Family::Lease, Err(error)),
        }
    }

    pub(super) fn run<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        work: impl Fn(&LeaseManager, Patience) -> Result<T> + Send + 'static,
        otherwise: impl Fn(&Error) -> T + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        self.answer(env, operation, move |manager, patience| match work(manager, patience) {
            Err(error) if patience == Patience::Now && would_block(&error) => Err(error),
            result => Ok(result.unwrap_or_else(|error| {
                metrics::error(&error);
                otherwise(&error)
            })),
        })
    }

    pub(super) fn answer<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        work: impl Fn(&LeaseManager, Patience) -> Result<T> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        // What goes over all leases may take long.
        let is_long = matches!(operation, Operation::Stats | Operation::List);
        if !is_long
            && !self.manager.is_remote()
            && let Some(result) = at_once(&self.lane, operation, || work(&self.manager, Patience::Now))
        {
            return settled(env, Family::Lease, result);
        }
        let (pending, promise) = Pending::new(env, Family::Lease, operation)?;
        let manager = Arc::clone(&self.manager);
        let asked = Instant::now();
        self.lane.push(Box::new(move || {
            let patience = manager.patience(asked, STORE_PATIENCE);
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
    let take_over = |value: Unknown<'_>, name| match text(value, name).ok().as_ref().and_then(Text::as_str) {
        Some("expiry") => Ok(false),
        Some("dead-holder") => Ok(true),
        _ => Err(invalid(name, "'expiry' or 'dead-holder'", value)),
    };
    Ok(LeaseOptions {
        takes_from_the_dead: fields.read("takeover", take_over)?.unwrap_or_default(),
        is_reentrant: fields.read("reentrant", boolean)?.unwrap_or_default(),
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

pub(super) fn internal_error(error: &Error) -> String {
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

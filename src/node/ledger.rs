//! `PhaseLedger`.

use std::path::Path;
use std::sync::Arc;

use napi::bindgen_prelude::{Null, PromiseRaw, ToNapiValue, Unknown, ValueType};
use napi::{Either, Env};
use napi_derive::napi;

use super::arguments::{Fields, JsText, boolean, js_text, number, storage_options, text, text_list};
use super::call::{PATIENCE, Pending, at_once, settled, would_block};
use super::errors::{Family, to_js};
use super::fences::WorkspaceFence;
use super::json::{Json, parse_lines};
use super::place::Workspace;
use super::store::Store;
use crate::clock::{Clock, SystemClock};
use crate::durability::Durability;
use crate::error::Result;
use crate::lane::Lane;
use crate::ledger::{FileLedger, LedgerStore, PostgresLedger, Transition, Verification};
use crate::log;
use crate::metrics::{self, Operation};
use crate::patience::Patience;
use crate::shared::Shared;

/// What the check of a ledger found.
#[napi(object, object_from_js = false)]
pub struct VerificationResult {
    /// Whether the ledger is whole. No file is as good as an empty one.
    pub valid: bool,
    /// The number of entries; 0 if a line is not JSON or the file can't be read.
    #[napi(js_name = "entries_checked")]
    pub entries_checked: f64,
    /// The first entry, counted from 0, that does not follow the one before it. The check ends there.
    #[napi(js_name = "broken_chain_at")]
    pub broken_chain_at: Option<f64>,
    /// The `entry_id`s of entries whose content is not what their hashes say.
    #[napi(js_name = "tampered_entries", ts_type = "string[]")]
    pub tampered_entries: Option<Vec<JsText>>,
    /// Why the ledger could not be read to its end.
    pub error: Option<String>,
}

/// What is in a ledger.
#[napi(object, object_from_js = false)]
pub struct LedgerStats {
    /// All entries.
    pub total_entries: f64,
    /// The number of different tasks.
    pub unique_tasks: f64,
    /// The first entry's timestamp (ISO 8601). Absent if there is none.
    #[napi(ts_type = "string")]
    pub oldest_entry: Option<JsText>,
    /// The last entry's timestamp (ISO 8601). Absent if there is none.
    #[napi(ts_type = "string")]
    pub newest_entry: Option<JsText>,
    /// The last entry's hash; `'genesis'` if there is none.
    #[napi(ts_type = "string")]
    pub last_hash: JsText,
    /// Lines that can't be read and are not counted above. Absent if there are none.
    pub damaged_lines: Option<f64>,
}

/// The history of phase transitions, each entry chained to the one before it by its hash, so that a change is seen.
///
/// It is kept in `<workspaceRoot>/state/process/ledger.jsonl`, one entry a line. Any number of processes may append:
/// the chain stays whole. An entry whose append has resolved survives the death of the process; a power cut it survives
/// once the operating system has written it back, or at once, and all entries before it, with `durability: 'sync'`.
///
/// With a server as its store there is no file. Calls that reject then do so with `SERVER` and `SERVER_UNREACHABLE`;
/// after the latter an entry may be there or not.
#[napi]
pub struct PhaseLedger {
    workspace: Workspace,
    shared: Arc<Ledger>,
    durability: Durability,
}

/// The ledger of a workspace, with the queue of those who can't have their answer at once.
struct Ledger {
    store: Arc<dyn LedgerStore>,
    lane: Arc<Lane<Job>>,
}

enum Job {
    /// An append, which can share its write and its sync with others.
    Append(Box<(Transition, Pending<Json>)>, Durability),
    Other(Box<dyn FnOnce() + Send>),
}

impl Ledger {
    fn of(workspace: &Path, store: &Store) -> Result<Arc<Self>> {
        static PLACES: Shared<Ledger> = Shared::new();
        PLACES.try_get(&store.place(workspace), || {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let store: Arc<dyn LedgerStore> = match store {
                Store::Workspace => FileLedger::shared(workspace, &clock),
                Store::Server(url) => Arc::new(PostgresLedger::new(url)?),
            };
            let worker = Arc::clone(&store);
            let lane = Lane::new(store.largest_batch(), move |jobs| run(&*worker, jobs));
            Ok(Self { store, lane })
        })
    }
}

/// Runs jobs in order; appends that follow each other and are to survive the same are done together.
fn run(store: &dyn LedgerStore, jobs: Vec<Job>) {
    let mut together: Vec<(Transition, Pending<Json>)> = Vec::new();
    let mut surviving = Durability::Process;
    for job in jobs {
        match job {
            Job::Append(job, durability) => {
                if durability != surviving {
                    append_together(store, std::mem::take(&mut together), surviving);
                }
                surviving = durability;
                together.push(*job);
            }
            Job::Other(work) => {
                append_together(store, std::mem::take(&mut together), surviving);
                work();
            }
        }
    }
    append_together(store, together, surviving);
}

fn append_together(store: &dyn LedgerStore, jobs: Vec<(Transition, Pending<Json>)>, durability: Durability) {
    if jobs.is_empty() {
        return;
    }
    let transitions: Vec<&Transition> = jobs.iter().map(|(transition, _)| transition).collect();
    match store.append(&transitions, durability, Patience::lasting(PATIENCE)) {
        Ok(lines) => {
            for ((_, pending), line) in jobs.into_iter().zip(lines) {
                pending.settle(Ok(Json(line)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, pending) in jobs {
                pending.settle(Err(Arc::clone(&error)));
            }
        }
    }
}

#[napi]
impl PhaseLedger {
    /// The ledger of a workspace. Does no I/O.
    ///
    /// @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
    /// @param options what acknowledged entries survive, and what to do where locks do not exclude
    /// @throws {LedgerError} `INVALID_ARGUMENT` for bad arguments
    #[napi(constructor, ts_args_type = "workspaceRoot: string, options?: StorageOptions", catch_unwind)]
    pub fn new(env: Env, workspace_root: Unknown<'_>, options: Option<Unknown<'_>>) -> napi::Result<Self> {
        let open = || {
            let workspace = Workspace::read(workspace_root, options)?;
            let durability = storage_options(options)?;
            let shared = Ledger::of(workspace.root(), &Store::of_options(options)?)?;
            Ok(Self { workspace, shared, durability })
        };
        open().map_err(|error| to_js(&env, Family::Ledger, &error))
    }

    /// Makes the folder of the ledger. Rejects with a {@link LedgerError}: `IO` if that can't be done,
    /// `NETWORK_FILE_SYSTEM` where `networkFileSystem: 'refuse'` says so, before anything is touched.
    #[napi(ts_return_type = "Promise<void>", catch_unwind)]
    pub fn initialize<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (workspace, durability) = (self.workspace.clone(), self.durability);
        self.answer(env, Operation::Initialize, move |store, patience| {
            workspace.admit(store.location())?;
            store.initialize(durability, patience)
        })
    }

    /// Whether there is a ledger file.
    #[napi(ts_return_type = "Promise<boolean>", catch_unwind)]
    pub fn exists<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, bool>> {
        self.answer(env, Operation::Initialize, |store, patience| store.exists(patience))
    }

    /// Appends the transition of a task from one phase to the next.
    ///
    /// Rejects with a {@link LedgerError}: `INVALID_ARGUMENT` for arguments of a wrong type; `IO` or `JOURNAL_LOCKED`
    /// if it can't be written, and then nothing was; with `durability: 'sync'` also `IO` if it was written and can't be
    /// synced, and then it may be there or not.
    ///
    /// @param fromPhase the phase that is left, or null at the beginning
    /// @param toPhase the phase that is entered
    /// @param evidenceArtifacts what shows that the work was done
    /// @param evidenceValidated whether somebody has checked it
    /// @param metadata further facts about the transition
    #[napi(
        ts_args_type = "taskId: string, fromPhase: WorkPhase | (string & {}) | null, toPhase: WorkPhase | (string & {}), evidenceArtifacts: string[], evidenceValidated: boolean, metadata?: TransitionMetadata",
        ts_return_type = "Promise<LedgerEntry>",
        catch_unwind
    )]
    #[allow(clippy::too_many_arguments, reason = "the contract's own signature")]
    pub fn append_transition<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        from_phase: Unknown<'env>,
        to_phase: Unknown<'env>,
        evidence_artifacts: Unknown<'env>,
        evidence_validated: Unknown<'env>,
        metadata: Option<Unknown<'env>>,
    ) -> napi::Result<PromiseRaw<'env, Json>> {
        let transition = || -> Result<Transition> {
            let metadata = Fields::optional(metadata, "metadata")?;
            let finite = |value: Unknown<'env>, name| {
                number(value, name, "a finite number of milliseconds", f64::is_finite)
            };
            Ok(Transition {
                task_id: text(task_id, "taskId")?,
                from_phase: match from_phase.get_type() {
                    Ok(ValueType::Null) => None,
                    _ => Some(text(from_phase, "fromPhase")?),
                },
                to_phase: text(to_phase, "toPhase")?,
                evidence_artifacts: text_list(evidence_artifacts, "evidenceArtifacts")?,
                evidence_validated: boolean(evidence_validated, "evidenceValidated")?,
                agent_type: metadata.read("agentType", text)?,
                duration_ms: metadata.read("durationMs", finite)?,
                persona_hash: metadata.read("personaHash", text)?,
            })
        };
        let read = || -> Result<(Transition, Option<WorkspaceFence>)> {
            let transition = transition()?;
            let fence = Fields::optional(metadata, "metadata")?.read("fence", WorkspaceFence::read)?;
            let fence = fence
                .map(|fence| fence.must_be_for(&transition.task_id, &transition.to_phase))
                .transpose()?;
            Ok((transition, fence))
        };
        let transition = match read() {
            Ok((transition, None)) => transition,
            Ok((transition, Some(fence))) => return self.append_fenced(env, transition, fence),
            Err(error) => return settled(env, Family::Ledger, Err(error)),
        };
        let (Ledger { store, lane }, durability) = (&*self.shared, self.durability);
        let now =
            || store.append(&[&transition], durability, Patience::Now).map(|lines| Json(lines.concat()));
        if !store.is_remote()
            && let Some(result) = at_once(lane, Operation::Append, now)
        {
            return settled(env, Family::Ledger, result);
        }
        let (pending, promise) = Pending::new(env, Family::Ledger, Operation::Append)?;
        lane.push(Job::Append(Box::new((transition, pending)), durability));
        Ok(promise)
    }

    /// Reads the whole file and checks each entry's hash and its place in the chain. Does not reject: what keeps the
    /// file from being read is told in `error`.
    #[napi(ts_return_type = "Promise<VerificationResult>", catch_unwind)]
    pub fn verify<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, VerificationResult>> {
        self.answer(env, Operation::Verify, |store, patience| {
            match store.verify(patience) {
                Ok(found) => Ok(found.into()),
                // The caller's patience may be all that was lacking.
                Err(error) if patience == Patience::Now && would_block(&error) => Err(error),
                Err(error) => {
                    metrics::error(&error);
                    Ok(VerificationResult::unreadable(error.to_string()))
                }
            }
        })
    }

    /// The entries of a task, oldest first; empty if there are none or the ledger can't be read (the log says so).
    #[napi(ts_args_type = "taskId: string", ts_return_type = "Promise<LedgerEntry[]>", catch_unwind)]
    pub fn get_task_history<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, Json>> {
        let task = text(task_id, "taskId");
        self.never_reject(
            env,
            Operation::History,
            move |store, patience| {
                let Ok(task) = &task else { return Ok(parse_lines(&[])) };
                store.history(task, patience).map(|lines| parse_lines(&lines))
            },
            || parse_lines(&[]),
        )
    }

    /// The phase that a task entered last; null if it entered none or the ledger can't be read (the log says so).
    #[napi(ts_args_type = "taskId: string", ts_return_type = "Promise<WorkPhase | null>", catch_unwind)]
    pub fn get_current_phase<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, Either<JsText, Null>>> {
        let task = text(task_id, "taskId");
        self.never_reject(
            env,
            Operation::LookUp,
            move |store, patience| {
                let Ok(task) = &task else { return Ok(Either::B(Null)) };
                let phase = store.current_phase(task, patience)?;
                Ok(phase.map_or(Either::B(Null), |phase| Either::A(js_text(&phase))))
            },
            || Either::B(Null),
        )
    }

    /// What is in the ledger; zeros if it can't be read (the log says so).
    #[napi(ts_return_type = "Promise<LedgerStats>", catch_unwind)]
    pub fn get_stats<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, LedgerStats>> {
        self.never_reject(
            env,
            Operation::Stats,
            |store, patience| store.stats(patience).map(LedgerStats::from),
            || LedgerStats::from(crate::ledger::LedgerStats::default()),
        )
    }
}

impl PhaseLedger {
    /// Never in the call: the fence's database may have to be opened and waited for.
    fn append_fenced<'env>(
        &self,
        env: &'env Env,
        transition: Transition,
        fence: WorkspaceFence,
    ) -> napi::Result<PromiseRaw<'env, Json>> {
        let (pending, promise) = Pending::new(env, Family::Ledger, Operation::Append)?;
        let (store, durability) = (Arc::clone(&self.shared.store), self.durability);
        self.shared.lane.push(Job::Other(Box::new(move || {
            let gate = |work: &mut dyn FnMut() -> Result<()>| fence.pass(work);
            let guard = fence.guard(store.location(), &gate);
            let lines = store.append_through(guard, &[&transition], durability, Patience::lasting(PATIENCE));
            pending.settle(lines.map(|lines| Json(lines.concat())).map_err(Arc::new));
        })));
        Ok(promise)
    }

    fn answer<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        work: impl Fn(&dyn LedgerStore, Patience) -> Result<T> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        let Ledger { store, lane } = &*self.shared;
        if !store.is_remote()
            && let Some(result) = at_once(lane, operation, || work(&**store, Patience::Now))
        {
            return settled(env, Family::Ledger, result);
        }
        let (pending, promise) = Pending::new(env, Family::Ledger, operation)?;
        let store = Arc::clone(store);
        lane.push(Job::Other(Box::new(move || {
            pending.settle(work(&*store, Patience::lasting(PATIENCE)).map_err(Arc::new));
        })));
        Ok(promise)
    }

    /// Answers `otherwise` where `work` fails, with a warning in the log.
    fn never_reject<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        work: impl Fn(&dyn LedgerStore, Patience) -> Result<T> + Send + 'static,
        otherwise: impl Fn() -> T + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        self.answer(env, operation, move |store, patience| match work(store, patience) {
            Err(error) if patience == Patience::Now && would_block(&error) => Err(error),
            Err(error) => {
                metrics::error(&error);
                let message = "The ledger could not be read";
                log::warning(message, &[("code", error.code()), ("error", &error.to_string())]);
                Ok(otherwise())
            }
            result => result,
        })
    }
}

impl VerificationResult {
    fn unreadable(error: String) -> Self {
        Self {
            valid: false,
            entries_checked: 0.0,
            broken_chain_at: None,
            tampered_entries: None,
            error: Some(error),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of entries stay far below 2^53")]
impl From<Verification> for VerificationResult {
    fn from(found: Verification) -> Self {
        let valid = found.is_valid();
        Self {
            valid,
            entries_checked: found.entries_checked as f64,
            broken_chain_at: found.broken_chain_at.map(|position| position as f64),
            tampered_entries: (!found.tampered_entries.is_empty())
                .then(|| found.tampered_entries.iter().map(js_text).collect()),
            error: found.unreadable_line.map(|line| {
                format!("line {line} of the ledger is not JSON; look at it, it was damaged or edited")
            }),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of entries stay far below 2^53")]
impl From<crate::ledger::LedgerStats> for LedgerStats {
    fn from(stats: crate::ledger::LedgerStats) -> Self {
        Self {
            total_entries: stats.total_entries as f64,
            unique_tasks: stats.unique_tasks as f64,
            oldest_entry: stats.oldest_entry.as_ref().map(js_text),
            newest_entry: stats.newest_entry.as_ref().map(js_text),
            last_hash: js_text(&stats.last_hash),
            damaged_lines: (stats.damaged_lines > 0).then_some(stats.damaged_lines as f64),
        }
    }
}

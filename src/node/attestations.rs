//! `PromptAttestationManager`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};
use napi_derive::napi;

use super::arguments::{
    Fields, JsText, js_text, non_empty_text, phase, runs_javascript, storage_options, text, text_list,
};
use super::call::{PATIENCE, Pending, at_once, settled};
use super::errors::{Family, to_js};
use super::fences::WorkspaceFence;
use super::json::{Json, parse_lines};
use super::place::Workspace;
use super::store::Store;
use crate::attestation::store::Prepared;
use crate::attestation::{
    Attestation, AttestationStore, BaselineUpdate, FileAttestations, PostgresAttestations, PromptSpec,
};
use crate::budget;
use crate::clock::{Clock, SystemClock};
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::log;
use crate::metrics::{self, Operation};
use crate::patience::Patience;
use crate::shared::Shared;

/// The answer to an attestation.
#[napi(object, object_from_js = false)]
pub struct DriftAnalysis {
    /// Whether the prompt differs from its baseline.
    pub has_drift: bool,
    /// The baseline that it was compared with. Absent at the first attestation.
    #[napi(ts_type = "string")]
    pub baseline_hash: Option<JsText>,
    /// The SHA-256 of the prompt, 64 lower-case hexadecimal digits. Empty if the prompt can't be hashed.
    pub current_hash: String,
    /// Both hashes, by their first 8 digits, if there is a drift.
    pub drift_details: Option<String>,
    /// How much the drift matters, by its phase: `high` in VERIFY, REVIEW and MONITOR, `low` in STRATEGIZE, SPEC,
    /// PLAN and AFP_ALIGNMENT, else `medium`; `none` without drift.
    #[napi(ts_type = "DriftSeverity")]
    pub severity: String,
    /// What to do about it. Absent if the prompt can't be hashed.
    pub recommendation: Option<String>,
    /// Whether the prompt and its baseline are both for a persona, and for different ones.
    pub persona_drift: bool,
    /// Both personas, by the first 16 digits of their hashes, if they differ.
    pub persona_details: Option<String>,
    /// What went wrong, if anything did: an attestation never blocks an agent, so the answer then holds what is still
    /// known. The log has a warning too.
    pub error: Option<String>,
    /// The stable code of what went wrong.
    pub error_code: Option<String>,
}

/// How often prompts have drifted, over all records of the log.
#[napi(object, object_from_js = false)]
pub struct DriftStats {
    /// All attestations.
    pub total_attestations: f64,
    /// Those that found a drift.
    pub drift_detections: f64,
    /// The share of attestations that found a drift, from 0 to 1; 0 without any.
    pub drift_rate: f64,
    /// How many there were of each severity that was seen; `unknown` for older records of a drift.
    pub severity_counts: HashMap<String, f64>,
    /// Lines of the log that can't be read and are not counted above. Absent if there are none.
    pub damaged_lines: Option<f64>,
}

/// Records which prompt an agent got in each phase of a task, and tells whether it has drifted from its baseline.
///
/// The first prompt of a task and phase becomes the baseline. Everything is kept in three files below
/// `<workspaceRoot>/state/process/`: the log `prompt_attestations.jsonl`, the baselines `prompt_baselines.json` and
/// the log of resets `prompt_baseline_updates.jsonl`. They are current when a call resolves, whatever other
/// processes do at the same time. What was acknowledged survives the death of the process; a power cut it survives
/// once the operating system has written it back, or at once with `durability: 'sync'`.
///
/// With a server as its store there are no files. Failures then have the codes `SERVER` and `SERVER_UNREACHABLE`, also in
/// the answers to `attest`, which waits for a silent server for 10 s.
#[napi]
pub struct PromptAttestationManager {
    workspace: Workspace,
    shared: Arc<Attestations>,
    durability: Durability,
}

/// The attestations of a workspace, with the queue of those who can't have their answer at once.
struct Attestations {
    store: Arc<dyn AttestationStore>,
    lane: Arc<Lane<Job>>,
}

enum Job {
    /// An attestation, which can share its writes and its sync with others.
    Attest(Box<(Prepared, Pending<DriftAnalysis>)>, Durability),
    Other(Box<dyn FnOnce() + Send>),
}

impl Attestations {
    fn of(workspace: &Path, store: &Store) -> Result<Arc<Self>> {
        static PLACES: Shared<Attestations> = Shared::new();
        PLACES.try_get(&store.place(workspace), || {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let store: Arc<dyn AttestationStore> = match store {
                Store::Workspace => FileAttestations::shared(workspace, &clock),
                Store::Server(url) => Arc::new(PostgresAttestations::new(url)?),
            };
            let worker = Arc::clone(&store);
            let lane = Lane::new(store.largest_batch(), move |jobs| run(&*worker, jobs));
            Ok(Self { store, lane })
        })
    }
}

/// Runs jobs in order; attestations that follow each other and are to survive the same are done together.
fn run(store: &dyn AttestationStore, jobs: Vec<Job>) {
    let mut together: Vec<(Prepared, Pending<DriftAnalysis>)> = Vec::new();
    let mut surviving = Durability::Process;
    for job in jobs {
        match job {
            Job::Attest(job, durability) => {
                if durability != surviving {
                    attest_together(store, std::mem::take(&mut together), surviving);
                }
                surviving = durability;
                together.push(*job);
            }
            Job::Other(work) => {
                attest_together(store, std::mem::take(&mut together), surviving);
                work();
            }
        }
    }
    attest_together(store, together, surviving);
}

fn attest_together(
    store: &dyn AttestationStore,
    jobs: Vec<(Prepared, Pending<DriftAnalysis>)>,
    durability: Durability,
) {
    if jobs.is_empty() {
        return;
    }
    let prompts: Vec<&Prepared> = jobs.iter().map(|(prompt, _)| prompt).collect();
    match store.attest(&prompts, durability, Patience::lasting(PATIENCE)) {
        Ok(answers) => {
            for ((_, pending), answer) in jobs.into_iter().zip(answers) {
                pending.settle(Ok(DriftAnalysis::from(answer)));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (prompt, pending) in jobs {
                pending.settle(Ok(Attestation::unknown(&prompt, Arc::clone(&error)).into()));
            }
        }
    }
}

#[napi]
impl PromptAttestationManager {
    /// A manager for a workspace. Does no I/O.
    ///
    /// @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
    /// @param options what acknowledged changes survive, and what to do where locks do not exclude
    /// @throws {AttestationError} `INVALID_ARGUMENT` for bad arguments
    #[napi(constructor, ts_args_type = "workspaceRoot: string, options?: StorageOptions", catch_unwind)]
    pub fn new(env: Env, workspace_root: Unknown<'_>, options: Option<Unknown<'_>>) -> napi::Result<Self> {
        let open = || {
            let workspace = Workspace::read(workspace_root, options)?;
            let durability = storage_options(options)?;
            let shared = Attestations::of(workspace.root(), &Store::of_options(options)?)?;
            Ok(Self { workspace, shared, durability })
        };
        open().map_err(|error| to_js(&env, Family::Attestation, &error))
    }

    /// Makes `state/process/`, an empty baselines file and an empty log of resets where they are absent.
    ///
    /// Rejects with an {@link AttestationError}: `IO` if that can't be done, `NETWORK_FILE_SYSTEM` where
    /// `networkFileSystem: 'refuse'` says so, before anything is touched.
    #[napi(ts_return_type = "Promise<void>", catch_unwind)]
    pub fn initialize<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (workspace, durability) = (self.workspace.clone(), self.durability);
        self.answer(env, Operation::Initialize, move |store, patience| {
            workspace.admit(store.location())?;
            store.initialize(durability, patience)
        })
    }

    /// Compares a prompt with the baseline of its task and phase, and records that.
    ///
    /// Never rejects, so that it never blocks an agent. What can't be hashed (a list is missing, a number stands for
    /// a string, the phase has a colon) is not attested: `currentHash` is then empty. If something can't be read or
    /// written the answer holds what is still known, and `error` says what went wrong.
    ///
    /// With a fence it takes effect only if the fence's lease is still the newest one of its task and phase, expired or
    /// not, and no take-over fits in between. It then rejects with an {@link AttestationError} instead of recording
    /// anything: `FENCED`, with the newer holder's name; `INVALID_ARGUMENT` for a fence of another task or phase;
    /// `DATABASE`, `DATABASE_LOCKED` if the fence can't be checked.
    ///
    /// @param spec the prompt; it is left as it is
    /// @param options a fence, if the attestation is for a lease that is held
    #[napi(
        ts_args_type = "spec: PromptSpec, options?: FenceOptions",
        ts_return_type = "Promise<DriftAnalysis>",
        catch_unwind
    )]
    pub fn attest<'env>(
        &self,
        env: &'env Env,
        spec: Unknown<'env>,
        options: Option<Unknown<'env>>,
        later: bool,
    ) -> napi::Result<Option<PromiseRaw<'env, DriftAnalysis>>> {
        // What the event loop has no time for in this turn, attestations.js passes again in a later one.
        let read = || prompt_spec(spec);
        let prompt = if later {
            read()
        } else if let Some((prompt, _)) = budget::spend(read) {
            prompt
        } else {
            return Ok(None);
        };
        let prompt = match prompt {
            Ok(spec) => Prepared::new(spec),
            Err(error) => {
                // In a thread that is being ended nothing can be read, which says nothing about the prompt.
                if runs_javascript(env) {
                    let message = "A prompt could not be hashed and was not attested";
                    log::warning(message, &[("code", error.code()), ("error", &error.to_string())]);
                }
                return settled(env, Family::Attestation, Ok(DriftAnalysis::not_hashed(&error))).map(Some);
            }
        };
        let fence = Fields::optional(options, "options")
            .and_then(|options| options.read("fence", WorkspaceFence::read))
            .and_then(|fence| {
                fence.map(|fence| fence.must_be_for(&prompt.spec.task_id, &prompt.spec.phase)).transpose()
            });
        match fence {
            Ok(None) => {}
            Ok(Some(fence)) => return self.attest_fenced(env, prompt, fence).map(Some),
            Err(error) => return settled(env, Family::Attestation, Err(error)).map(Some),
        }
        let (Attestations { store, lane }, durability) = (&*self.shared, self.durability);
        let now = || store.attest(&[&prompt], durability, Patience::Now).map(|mut answers| answers.pop());
        let answered = if later || store.is_remote() { None } else { at_once(lane, Operation::Attest, now) };
        let promise = match answered {
            Some(Ok(Some(answer))) => settled(env, Family::Attestation, Ok(answer.into())),
            Some(Ok(None)) => Err(napi::Error::from_reason("an attestation without an answer")),
            Some(Err(error)) => {
                let answer = Attestation::unknown(&prompt, Arc::new(error));
                settled(env, Family::Attestation, Ok(answer.into()))
            }
            None => {
                let (pending, promise) = Pending::new(env, Family::Attestation, Operation::Attest)?;
                lane.push(Job::Attest(Box::new((prompt, pending)), durability));
                Ok(promise)
            }
        };
        promise.map(Some)
    }

    /// The records of a task as they stand in the log, oldest first; empty if there are none. Lines of the log that
    /// can't be read are left out (`getDriftStats().damagedLines` counts them).
    ///
    /// Rejects with an {@link AttestationError}: `INVALID_ARGUMENT` if the task is no string, `IO` if the log can't
    /// be read.
    #[napi(ts_args_type = "taskId: string", ts_return_type = "Promise<PromptAttestation[]>", catch_unwind)]
    pub fn get_attestation_history<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, Json>> {
        match text(task_id, "taskId") {
            Ok(task) => self.answer(env, Operation::History, move |store, patience| {
                store.history(&task, patience).map(|lines| parse_lines(&lines))
            }),
            Err(error) => settled(env, Family::Attestation, Err(error)),
        }
    }

    /// How often prompts have drifted, over all records; zeros without any.
    ///
    /// Rejects with an {@link AttestationError} (`IO`) if the log can't be read.
    #[napi(ts_return_type = "Promise<DriftStats>", catch_unwind)]
    pub fn get_drift_stats<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, DriftStats>> {
        self.answer(env, Operation::Stats, |store, patience| store.stats(patience).map(DriftStats::from))
    }

    /// Sets the baseline of a task and phase, whatever it was: its version is one more than before, or 1, and it is
    /// no longer for a persona. The log of resets gets a line.
    ///
    /// Rejects with an {@link AttestationError}: `INVALID_ARGUMENT` for arguments of a wrong type, an empty hash or a
    /// phase with a colon; `IO` or `JOURNAL_LOCKED` if it can't be written.
    ///
    /// @param newHash the new baseline, usually a `currentHash` that `attest` has given
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {}), newHash: string, options?: BaselineUpdateOptions",
        ts_return_type = "Promise<void>",
        catch_unwind
    )]
    pub fn reset_baseline<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase_name: Unknown<'env>,
        new_hash: Unknown<'env>,
        options: Option<Unknown<'env>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let arguments = || {
            Ok((
                text(task_id, "taskId")?,
                phase(phase_name, "phase")?,
                non_empty_text(new_hash, "newHash")?,
                baseline_update(options)?,
            ))
        };
        let durability = self.durability;
        match arguments() {
            Ok((task, phase, hash, update)) => {
                self.answer(env, Operation::ResetBaseline, move |store, patience| {
                    store.reset(&task, &phase, &hash, update.clone(), durability, patience)
                })
            }
            Err(error) => settled(env, Family::Attestation, Err(error)),
        }
    }
}

impl PromptAttestationManager {
    /// Never in the call: the fence's database may have to be opened and waited for.
    fn attest_fenced<'env>(
        &self,
        env: &'env Env,
        prompt: Prepared,
        fence: WorkspaceFence,
    ) -> napi::Result<PromiseRaw<'env, DriftAnalysis>> {
        let (pending, promise) = Pending::new(env, Family::Attestation, Operation::Attest)?;
        let (store, durability) = (Arc::clone(&self.shared.store), self.durability);
        self.shared.lane.push(Job::Other(Box::new(move || {
            let gate = |work: &mut dyn FnMut() -> Result<()>| fence.pass(work);
            let guard = fence.guard(store.location(), &gate);
            let answers = store.attest_through(guard, &[&prompt], durability, Patience::lasting(PATIENCE));
            let answer = answers.and_then(|mut answers| {
                answers.pop().ok_or_else(|| Error::Defect("an attestation without an answer".to_owned()))
            });
            pending.settle(answer.map(DriftAnalysis::from).map_err(Arc::new));
        })));
        Ok(promise)
    }

    fn answer<'env, T: napi::bindgen_prelude::ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        operation: Operation,
        work: impl Fn(&dyn AttestationStore, Patience) -> Result<T> + Send + 'static,
    ) -> napi::Result<PromiseRaw<'env, T>> {
        let Attestations { store, lane } = &*self.shared;
        if !store.is_remote()
            && let Some(result) = at_once(lane, operation, || work(&**store, Patience::Now))
        {
            return settled(env, Family::Attestation, result);
        }
        let (pending, promise) = Pending::new(env, Family::Attestation, operation)?;
        let store = Arc::clone(store);
        lane.push(Job::Other(Box::new(move || {
            pending.settle(work(&*store, Patience::lasting(PATIENCE)).map_err(Arc::new));
        })));
        Ok(promise)
    }
}

impl DriftAnalysis {
    fn not_hashed(error: &Error) -> Self {
        metrics::error(error);
        Self {
            has_drift: false,
            baseline_hash: None,
            current_hash: String::new(),
            drift_details: None,
            severity: "none".to_owned(),
            recommendation: None,
            persona_drift: false,
            persona_details: None,
            error: Some(error.to_string()),
            error_code: Some(error.code().to_owned()),
        }
    }
}

impl From<Attestation> for DriftAnalysis {
    fn from(answer: Attestation) -> Self {
        if let Some(error) = &answer.error {
            metrics::error(error);
        }
        let severity = answer.drift.severity;
        Self {
            has_drift: answer.drift.is_drift(),
            baseline_hash: answer.baseline_hash.as_ref().map(js_text),
            current_hash: answer.current_hash,
            drift_details: answer.drift.details,
            severity: severity.as_str().to_owned(),
            recommendation: Some(severity.recommendation().to_owned()),
            persona_drift: answer.drift.persona_details.is_some(),
            persona_details: answer.drift.persona_details,
            error: answer.error.as_ref().map(ToString::to_string),
            error_code: answer.error.as_ref().map(|error| error.code().to_owned()),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts of lines stay far below 2^53")]
impl From<crate::attestation::DriftStats> for DriftStats {
    fn from(stats: crate::attestation::DriftStats) -> Self {
        Self {
            drift_rate: stats.drift_rate(),
            total_attestations: stats.total_attestations as f64,
            drift_detections: stats.drift_detections as f64,
            damaged_lines: (stats.damaged_lines > 0).then_some(stats.damaged_lines as f64),
            severity_counts: stats
                .severity_counts
                .into_iter()
                .map(|(severity, count)| (severity.to_string(), count as f64))
                .collect(),
        }
    }
}

fn prompt_spec(spec: Unknown<'_>) -> Result<PromptSpec> {
    let fields = Fields::required(spec, "spec")?;
    Ok(PromptSpec {
        phase: fields.read_required("phase", "a string", phase)?,
        task_id: fields.read_required("taskId", "a string", text)?,
        requirements: fields.read_required("requirements", "a list of strings", text_list)?,
        quality_gates: fields.read_required("qualityGates", "a list of strings", text_list)?,
        artifacts: fields.read_required("artifacts", "a list of strings", text_list)?,
        context_summary: fields.nullable_text("contextSummary")?,
        persona_hash: fields.nullable_text("personaHash")?,
        persona_summary: fields.nullable_text("personaSummary")?,
        agent_type: fields.nullable_text("agentType")?,
        model_version: fields.nullable_text("modelVersion")?,
    })
}

fn baseline_update(options: Option<Unknown<'_>>) -> Result<BaselineUpdate> {
    let fields = Fields::optional(options, "options")?;
    Ok(BaselineUpdate {
        updated_by: fields.read("updatedBy", text)?,
        reason: fields.read("reason", text)?,
        version_tag: fields.read("versionTag", text)?,
        timestamp: fields.read("timestamp", text)?,
    })
}

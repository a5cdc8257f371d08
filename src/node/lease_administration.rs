//! What operators and other agents ask of a `PhaseLeaseManager`: who holds what, hand-over, forced release, fences.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{Function, Null, PromiseRaw, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Either, Env, Status};
use napi_derive::napi;

use super::arguments::{Fields, JsText, js_text, non_empty_text, text};
use super::call::settled;
use super::errors::{Family, to_js};
use super::fences::WorkspaceFence;
use super::lease_shapes::{LeaseAcquisitionResult, PhaseLease, count};
use super::leases::{PhaseLeaseManager, STORE_PATIENCE, internal_error};
use crate::error::{Error, Result};
use crate::lease::{EventKind, LeaseEvent, LeaseKey, LeaseManager, ListedLease, OwnedKey};
use crate::log;
use crate::metrics::Operation;
use crate::patience::Patience;

/// Between two looks for events, and over the network.
const LOOK: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));
/// How many times as long as a look the pause after it is at least; over the network, looking is mostly waiting.
const REST: (u32, u32) = (50, 4);

/// A lease as {@link PhaseLeaseManager.listLeases} tells of it.
#[napi(object, object_from_js = false)]
pub struct LeaseListing {
    /// The lease.
    pub lease: PhaseLease,
    /// The process that acquired or renewed it last; absent if old code did.
    pub pid: Option<u32>,
    /// That process's host, by its name.
    pub host: Option<String>,
    /// For how long it has been held, in milliseconds.
    pub held_ms: f64,
    /// How long it still lasts unless it is renewed, in milliseconds; 0 once it has ended.
    pub remaining_ms: f64,
    /// How many wait for it.
    pub waiters: f64,
}

/// Something that happened to a lease and that its holder did not do.
#[napi(object, object_from_js = false, js_name = "LeaseEvent")]
pub struct JsLeaseEvent {
    /// Rises from event to event.
    pub id: f64,
    /// `'expiry'`: it ended without being released; `'takeover'`: its process was dead; `'forced-release'`.
    #[napi(ts_type = "'expiry' | 'takeover' | 'forced-release'")]
    pub kind: String,
    /// When (ISO 8601, milliseconds, Z).
    pub at: String,
    /// The task.
    #[napi(ts_type = "string")]
    pub task_id: JsText,
    /// The phase.
    #[napi(ts_type = "string")]
    pub phase: JsText,
    /// Who held the lease.
    #[napi(ts_type = "string")]
    pub agent_id: JsText,
    /// Its fencing token.
    pub fencing_token: Option<f64>,
    /// Who took it over, if somebody has, or released it.
    #[napi(ts_type = "string")]
    pub by: Option<JsText>,
    /// Why it was released.
    #[napi(ts_type = "string")]
    pub reason: Option<JsText>,
}

#[napi]
impl PhaseLeaseManager {
    /// Gives one lease back and acquires another in one step: both, or nothing is changed. The answer is that of
    /// {@link PhaseLeaseManager.acquireLease}, or `'Lease not held by this agent'` if `from` isn't.
    ///
    /// Rejects with a {@link LeaseError} (`INVALID_ARGUMENT`) for bad arguments only.
    #[napi(
        ts_args_type = "taskId: string, from: WorkPhase | (string & {}), to: WorkPhase | (string & {})",
        ts_return_type = "Promise<LeaseAcquisitionResult>",
        catch_unwind
    )]
    pub fn advance_lease<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        from: Unknown<'env>,
        to: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, LeaseAcquisitionResult>> {
        let read = || -> Result<(OwnedKey, OwnedKey)> {
            let task = text(task_id, "taskId")?;
            let (from, to) = (text(from, "from")?, text(to, "to")?);
            if from == to {
                let actual = format!("phase {to} twice");
                return Err(Error::InvalidArgument {
                    argument: "to",
                    expected: "another phase than from",
                    actual,
                });
            }
            Ok((OwnedKey { task: task.clone(), phase: from }, OwnedKey { task, phase: to }))
        };
        match read() {
            Ok((from, to)) => self.run(
                env,
                Operation::Advance,
                move |manager, patience| {
                    let advanced = manager.advance(from.clone(), to.clone(), patience)?;
                    Ok(advanced.map_or_else(
                        || LeaseAcquisitionResult::refused("Lease not held by this agent".to_owned()),
                        Into::into,
                    ))
                },
                |error| LeaseAcquisitionResult::refused(internal_error(error)),
            ),
            Err(error) => settled(env, Family::Lease, Err(error)),
        }
    }

    /// Resolves if the fence's lease is still the newest one of its task and phase, expired or not. It may not be any
    /// more when the answer arrives: what must not happen after a take-over belongs into a fenced write.
    ///
    /// Rejects with a {@link LeaseError}: `FENCED`, with the newer holder's name, if another lease has been acquired
    /// since or this one was released; `INVALID_ARGUMENT`, `DATABASE`, `DATABASE_LOCKED`, `CLOSED`.
    #[napi(ts_args_type = "fence: Fence", ts_return_type = "Promise<void>", catch_unwind)]
    pub fn check_fence<'env>(
        &self,
        env: &'env Env,
        fence: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let read = || {
            let server = self.manager.server();
            WorkspaceFence::read(fence, "fence")?.must_be_of(&self.workspace, server.as_deref())
        };
        match read() {
            Ok(WorkspaceFence { fence, .. }) => {
                self.answer(env, Operation::CheckFence, move |manager, patience| {
                    manager.fenced(&fence, &mut || Ok(()), patience)
                })
            }
            Err(error) => settled(env, Family::Lease, Err(error)),
        }
    }

    /// All leases of the workspace, those that have ended too, by task and phase.
    ///
    /// Rejects with a {@link LeaseError}: `DATABASE` if the store fails, `CLOSED` after `close()`.
    #[napi(ts_return_type = "Promise<LeaseListing[]>", catch_unwind)]
    pub fn list_leases<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, Vec<LeaseListing>>> {
        self.answer(env, Operation::List, |manager, patience| {
            Ok(manager.list(patience)?.into_iter().map(LeaseListing::from).collect())
        })
    }

    /// Ends a lease, whoever's it is, for an operator who knows better. Its holder's `signal` aborts, if it has one, and
    /// its fence is refused from then on. Who did it and why is kept in the workspace's database (the last 10,000) and
    /// told by {@link PhaseLeaseManager.listLeaseEvents}. Resolves to the lease, or to null if there was none.
    ///
    /// Rejects with a {@link LeaseError}: `INVALID_ARGUMENT`, `DATABASE`, `DATABASE_LOCKED`, `CLOSED`.
    #[napi(
        ts_args_type = "taskId: string, phase: WorkPhase | (string & {}), options: ForceReleaseOptions",
        ts_return_type = "Promise<PhaseLease | null>",
        catch_unwind
    )]
    pub fn force_release<'env>(
        &self,
        env: &'env Env,
        task_id: Unknown<'env>,
        phase: Unknown<'env>,
        options: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, Either<PhaseLease, Null>>> {
        let read = || -> Result<_> {
            let (task, phase) = (text(task_id, "taskId")?, text(phase, "phase")?);
            let fields = Fields::required(options, "options")?;
            let by = fields.read_required("by", "a name", non_empty_text)?;
            let reason = fields.read_required("reason", "a reason", non_empty_text)?;
            Ok((task, phase, by, reason))
        };
        match read() {
            Ok((task, phase, by, reason)) => {
                self.answer(env, Operation::ForceRelease, move |manager, patience| {
                    let key = LeaseKey { task: &task, phase: &phase };
                    let released = manager.force_release(key, &by, &reason, patience)?;
                    Ok(released.map_or(Either::B(Null), |lease| Either::A(lease.into())))
                })
            }
            Err(error) => settled(env, Family::Lease, Err(error)),
        }
    }

    /// What happened to leases without their holders' doing, oldest first: the last 10,000 of each kind at least. Of the
    /// leases that end, those are recorded that somebody takes over.
    ///
    /// Rejects with a {@link LeaseError}: `DATABASE` if the store fails, `CLOSED` after `close()`.
    #[napi(ts_return_type = "Promise<LeaseEvent[]>", catch_unwind)]
    pub fn list_lease_events<'env>(
        &self,
        env: &'env Env,
    ) -> napi::Result<PromiseRaw<'env, Vec<JsLeaseEvent>>> {
        self.answer(env, Operation::List, |manager, patience| {
            Ok(manager.events_after(0, patience)?.into_iter().map(JsLeaseEvent::from).collect())
        })
    }

    /// Calls a function with each event from now on, until the manager is closed.
    #[napi(js_name = "__watchEvents", skip_typescript, catch_unwind)]
    pub fn watch_events(&self, env: Env, callback: Function<'_, JsLeaseEvent, ()>) -> napi::Result<()> {
        let callback = callback.build_threadsafe_function().weak::<true>().build()?;
        let tell = move |event: LeaseEvent| {
            let _: Status = callback.call(event.into(), ThreadsafeFunctionCallMode::NonBlocking);
        };
        let manager = Arc::downgrade(&self.manager);
        let thread = std::thread::Builder::new().name("driftlock-events".to_owned());
        let start = move |latest| thread.spawn(move || watch(&manager, latest, tell)).map(drop);
        if self.manager.is_remote() {
            // Before the calls that are made next; without an answer from when there is one.
            let manager = Arc::downgrade(&self.manager);
            self.lane.push(Box::new(move || {
                let Some(manager) = manager.upgrade() else { return };
                let latest = manager.latest_event(Patience::lasting(STORE_PATIENCE)).ok();
                drop(manager);
                if let Err(error) = start(latest) {
                    log::warning("Lease events are not told", &[("error", &error.to_string())]);
                }
            }));
            return Ok(());
        }
        let latest = self.manager.latest_event(Patience::lasting(LOOK.0));
        let latest = latest.map_err(|error| to_js(&env, Family::Lease, &error))?;
        start(Some(latest))
            .map_err(|error| napi::Error::from_reason(format!("no thread to watch events: {error}")))
    }
}

/// Tells of what happens after the event of the id `latest`, or from the first look on.
fn watch(manager: &Weak<LeaseManager>, mut latest: Option<i64>, tell: impl Fn(LeaseEvent)) {
    // The tokens of the leases that have ended and that their listeners know of.
    let mut known_ends: Option<HashSet<i64>> = None;
    loop {
        let began = Instant::now();
        let Some(strong) = manager.upgrade() else { return };
        let (pause, rest, patience) =
            if strong.is_remote() { (LOOK.1, REST.1, STORE_PATIENCE) } else { (LOOK.0, REST.0, LOOK.0) };
        let look = || {
            let from = match latest {
                Some(latest) => latest,
                None => strong.latest_event(Patience::lasting(patience))?,
            };
            let events = strong.events_after(from, Patience::lasting(patience))?;
            let listed = strong.list(Patience::lasting(patience))?;
            Ok((from, events, listed.into_iter().filter(|listed| listed.remaining_ms == 0)))
        };
        let looked = look();
        drop(strong);
        match looked {
            Err(Error::Closed) => return,
            Err(_) => {}
            Ok((from, events, ended)) => {
                let mut last = from;
                let mut ends = HashSet::new();
                for listed in ended {
                    let token = listed.lease.fencing_token;
                    ends.insert(token);
                    if known_ends.as_ref().is_some_and(|known| !known.contains(&token)) {
                        tell(LeaseEvent::of_ended(from, listed.lease));
                    }
                }
                for event in events {
                    last = event.id;
                    let is_known = event.kind == EventKind::Expiry
                        && event.fencing_token.is_some_and(|token| {
                            known_ends.as_ref().is_some_and(|known| known.contains(&token))
                        });
                    if !is_known {
                        tell(event);
                    }
                }
                latest = Some(last);
                known_ends = Some(ends);
            }
        }
        std::thread::sleep(pause.max(began.elapsed() * rest));
    }
}

#[allow(clippy::cast_precision_loss, reason = "durations and tokens stay below 2^53")]
impl From<ListedLease> for LeaseListing {
    fn from(listed: ListedLease) -> Self {
        let (pid, host) = listed.process.unzip();
        Self {
            lease: listed.lease.into(),
            pid,
            host,
            held_ms: listed.held_ms as f64,
            remaining_ms: listed.remaining_ms as f64,
            waiters: count(listed.waiters),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "ids and tokens stay below 2^53")]
impl From<LeaseEvent> for JsLeaseEvent {
    fn from(event: LeaseEvent) -> Self {
        Self {
            id: event.id as f64,
            kind: event.kind.name().to_owned(),
            at: event.at,
            task_id: js_text(&event.task_id),
            phase: js_text(&event.phase),
            agent_id: js_text(&event.agent_id),
            fencing_token: event.fencing_token.map(|token| token as f64),
            by: event.by.as_ref().map(js_text),
            reason: event.reason.as_ref().map(js_text),
        }
    }
}

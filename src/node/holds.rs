//! Leases that are held: what `hold`, `holdMany` and `advance` of the package are made of.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use napi::bindgen_prelude::{External, FnArgs, Function, PromiseRaw, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, Status};
use napi_derive::napi;

use super::arguments::{Fields, JsText, duration_ms, invalid, js_text, list, text};
use super::call::Pending;
use super::errors::Family;
use super::leases::{PhaseLeaseManager, STORE_PATIENCE};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::lease::{Cancellation, Hold, HoldRequest, HoldTerms, OwnedKey};
use crate::metrics::Operation;
use crate::patience::Patience;

/// How long a hold lasts at most, unless its caller says otherwise: an hour, in milliseconds.
const DEFAULT_MAX_HOLD_MS: i64 = 3_600_000;
/// How long giving up a lease while the process exits may wait for others, and all of them together.
const AT_EXIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// A lease that is held. JavaScript only passes it back.
pub struct LeaseHold {
    hold: Arc<Hold>,
    lane: Arc<Lane<Box<dyn FnOnce() + Send>>>,
}

/// The lease's id.
#[napi(js_name = "__holdLeaseId", skip_typescript, catch_unwind)]
pub fn hold_lease_id(lease: &External<LeaseHold>) -> String {
    lease.hold.fence().lease_id
}

/// The fencing token.
#[napi(js_name = "__holdToken", skip_typescript, catch_unwind)]
#[allow(clippy::cast_precision_loss, reason = "tokens stay below 2^53")]
pub fn hold_token(lease: &External<LeaseHold>) -> f64 {
    lease.hold.fence().token as f64
}

/// When the lease ends unless it is renewed again.
#[napi(js_name = "__holdExpiresAt", skip_typescript, catch_unwind)]
pub fn hold_expires_at(lease: &External<LeaseHold>) -> String {
    lease.hold.expires_at()
}

/// For how long nobody else can get in.
#[napi(js_name = "__holdRemainingMs", skip_typescript, catch_unwind)]
#[allow(clippy::cast_precision_loss, reason = "durations stay below 2^53 ms")]
pub fn hold_remaining_ms(lease: &External<LeaseHold>) -> f64 {
    lease.hold.remaining_ms() as f64
}

/// Says that the holder gets on.
#[napi(js_name = "__holdProgress", skip_typescript, catch_unwind)]
pub fn hold_progress(lease: &External<LeaseHold>) {
    lease.hold.progress();
}

/// Gives the lease up.
#[napi(js_name = "__holdRelease", skip_typescript, catch_unwind)]
pub fn hold_release<'env>(
    env: &'env Env,
    lease: &External<LeaseHold>,
) -> napi::Result<PromiseRaw<'env, bool>> {
    let (pending, promise) = Pending::new(env, Family::Lease, Operation::Release)?;
    let hold = Arc::clone(&lease.hold);
    lease.lane.push(Box::new(move || {
        pending.settle(hold.release(Patience::lasting(STORE_PATIENCE)).map_err(Arc::new));
    }));
    Ok(promise)
}

/// For a process that exits: nothing can be waited for any more.
#[napi(js_name = "__holdReleaseAtExit", skip_typescript, catch_unwind)]
pub fn hold_release_at_exit(lease: &External<LeaseHold>) {
    static END: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let end = END.get_or_init(|| now + AT_EXIT.1);
    let _ = lease.hold.release(Patience::Until((now + AT_EXIT.0).min(*end)));
}

/// Lets a hold that is waited for be cancelled.
#[napi(js_name = "__newCancellation", skip_typescript, catch_unwind)]
pub fn new_cancellation() -> External<Arc<Cancellation>> {
    External::new(Arc::default())
}

/// Cancels it.
#[napi(js_name = "__cancel", skip_typescript, catch_unwind)]
pub fn cancel(cancellation: &External<Arc<Cancellation>>) {
    cancellation.cancel();
}

#[napi]
impl PhaseLeaseManager {
    /// Acquires leases to hold. `lost` is called with the position of one that is lost, a code and a message; `refused`
    /// with the position of one that could not be had, and who has it.
    #[napi(js_name = "__hold", skip_typescript, catch_unwind)]
    #[allow(clippy::too_many_arguments, reason = "what the package's own code passes")]
    pub fn hold_leases<'env>(
        &self,
        env: &'env Env,
        keys: Unknown<'env>,
        options: Option<Unknown<'env>>,
        cancellation: &External<Arc<Cancellation>>,
        lost: Function<'env, FnArgs<(u32, String, String)>, ()>,
        refused: Function<'env, FnArgs<(u32, JsText)>, ()>,
        instead: Option<&External<LeaseHold>>,
    ) -> napi::Result<PromiseRaw<'env, Vec<External<LeaseHold>>>> {
        let read = || -> Result<(Vec<OwnedKey>, i64, HoldTerms)> {
            let keys = lease_keys(keys)?;
            let (wait_ms, terms) = hold_options(options, self.lease_duration_ms)?;
            Ok((keys, wait_ms, terms))
        };
        let (pending, promise) = Pending::new(env, Family::Lease, Operation::Hold)?;
        let (keys, wait_ms, terms) = match read() {
            Ok(read) => read,
            Err(error) => {
                pending.settle(Err(Arc::new(error)));
                return Ok(promise);
            }
        };
        // Weak, so that a lease keeps no process alive.
        let lost = lost.build_threadsafe_function().weak::<true>().build()?;
        let on_lost = move |position: usize, error: &Error| {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            let what = FnArgs::from((position, error.code().to_owned(), error.to_string()));
            let _: Status = lost.call(what, ThreadsafeFunctionCallMode::NonBlocking);
        };
        let refused = refused.build_threadsafe_function().weak::<true>().build()?;
        let asked = keys.clone();
        let tell_refusal = move |error: &Error| {
            let Error::LeaseHeld { task, phase, holder } = error else { return };
            let position = asked.iter().position(|key| (&key.task, &key.phase) == (task, phase));
            let position = position.and_then(|position| u32::try_from(position).ok()).unwrap_or(0);
            let what = FnArgs::from((position, js_text(holder)));
            let _: Status = refused.call(what, ThreadsafeFunctionCallMode::NonBlocking);
        };
        let old = instead.map(|instead| Arc::clone(&instead.hold));
        let request = HoldRequest { keys, wait_ms, terms, instead_of: old, on_lost: Arc::new(on_lost) };
        let (manager, lane) = (Arc::clone(&self.manager), Arc::clone(&self.lane));
        let cancellation = Arc::clone(cancellation);
        let asked = Instant::now();
        self.lane.push(Box::new(move || {
            let answer = Box::new(move |held: Result<Vec<Arc<Hold>>>| {
                let _ = held.as_ref().inspect_err(|error| tell_refusal(error));
                let unwanted: Vec<_> = held.iter().flatten().map(Arc::clone).collect();
                let held = held.map(|holds| {
                    let hold = |hold| External::new(LeaseHold { hold, lane: Arc::clone(&lane) });
                    holds.into_iter().map(hold).collect()
                });
                // A thread that has ended meanwhile holds nothing.
                pending.settle_or(held.map_err(Arc::new), move || {
                    for hold in unwanted {
                        let _ = hold.release(Patience::lasting(STORE_PATIENCE));
                    }
                });
            });
            manager.hold(request, manager.patience(asked, STORE_PATIENCE), &cancellation, answer);
        }));
        Ok(promise)
    }
}

/// Reads a list of `{ taskId, phase }`, none of them twice.
fn lease_keys(keys: Unknown<'_>) -> Result<Vec<OwnedKey>> {
    let expected = "a list of at least one { taskId, phase }";
    let mut read = Vec::new();
    for key in list(keys, "keys", expected)? {
        let fields = Fields::required(key, "keys")?;
        let key = OwnedKey {
            task: fields.read_required("taskId", "a string", text)?,
            phase: fields.read_required("phase", "a string", text)?,
        };
        if read.contains(&key) {
            let actual = format!("phase {} of task {} twice", key.phase, key.task);
            return Err(Error::InvalidArgument { argument: "keys", expected: "different leases", actual });
        }
        read.push(key);
    }
    if read.is_empty() {
        return Err(invalid("keys", expected, keys));
    }
    Ok(read)
}

fn hold_options(options: Option<Unknown<'_>>, duration_ms_: i64) -> Result<(i64, HoldTerms)> {
    let fields = Fields::optional(options, "options")?;
    let terms = HoldTerms {
        duration_ms: duration_ms_,
        max_hold_ms: fields.read("maxHoldMs", duration_ms)?.unwrap_or(DEFAULT_MAX_HOLD_MS).max(1),
        progress_ms: fields.read("progressMs", duration_ms)?.map(|ms| ms.max(1)),
    };
    Ok((fields.read("waitMs", duration_ms)?.unwrap_or(0), terms))
}

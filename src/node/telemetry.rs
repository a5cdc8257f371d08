//! `TelemetryRecorder`.

use std::sync::Arc;

use napi::bindgen_prelude::{Function, JsObjectValue, JsValue, Object, PromiseRaw, Unknown, ValueType};
use napi::{Env, JsString};
use napi_derive::napi;

use super::arguments::{Fields, invalid, non_empty_text, number};
use super::call::{PATIENCE, Pending, at_once, settled};
use super::errors::{Family, to_js};
use super::place::Workspace;
use crate::clock::{Clock, SystemClock, iso_timestamp};
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::metrics::Operation;
use crate::patience::Patience;
use crate::shared::Shared;
use crate::telemetry::CounterLog;
use crate::telemetry::recorder::counter_line;

/// Records what happens in a workspace, for monitoring: counters in `<workspaceRoot>/state/telemetry/counters.jsonl`,
/// one a line.
///
/// Any number of processes and threads may record, other programs may append to the file, and it may be rotated by
/// renaming it: each acknowledged line stands there whole and once.
#[napi]
pub struct TelemetryRecorder {
    shared: Arc<Recording>,
}

/// The counters of a workspace, with the queue of those who can't be answered at once.
struct Recording {
    log: Arc<CounterLog>,
    lane: Arc<Lane<(Vec<u8>, Pending<()>)>>,
}

impl Recording {
    fn of(workspace: &Workspace) -> Arc<Self> {
        static WORKSPACES: Shared<Recording> = Shared::new();
        WORKSPACES.get(workspace.root(), || {
            let log = CounterLog::shared(workspace.root());
            let worker = Arc::clone(&log);
            Self { log, lane: Lane::new(usize::MAX, move |jobs| append_together(&worker, jobs)) }
        })
    }
}

fn append_together(log: &CounterLog, jobs: Vec<(Vec<u8>, Pending<()>)>) {
    let lines: Vec<u8> = jobs.iter().flat_map(|(line, _)| line).copied().collect();
    let result = log.append(&lines, Patience::lasting(PATIENCE)).map_err(Arc::new);
    for (_, pending) in jobs {
        pending.settle(result.clone());
    }
}

#[napi]
impl TelemetryRecorder {
    /// The recorder of a workspace. Does no I/O.
    ///
    /// @param workspaceRoot the workspace's folder, the same for all agents (see {@link resolveWorkspace})
    /// @throws {TelemetryError} `INVALID_ARGUMENT` for bad arguments
    #[napi(constructor, ts_args_type = "workspaceRoot: string", catch_unwind)]
    pub fn new(env: Env, workspace_root: Unknown<'_>) -> napi::Result<Self> {
        let workspace =
            Workspace::read(workspace_root, None).map_err(|error| to_js(&env, Family::Telemetry, &error))?;
        Ok(Self { shared: Recording::of(&workspace) })
    }

    /// Appends a line `{"timestamp", "counter", "value", "metadata"}`, making the file and its folders if they are absent.
    /// Lines stand in the order of the calls, also of those that are not awaited.
    ///
    /// A line whose call has resolved survives the death of the process; a power cut it survives once the operating
    /// system has written it back.
    ///
    /// Rejects with a {@link TelemetryError}: `INVALID_ARGUMENT` for bad arguments, before anything is touched; `IO` or
    /// `JOURNAL_LOCKED` if it can't be written.
    ///
    /// @param name what is counted, not empty; the exporter shows `evidence_gate_passed`, `evidence_gate_failed`,
    /// `phase_validations_passed`, `phase_validations_failed`, `phase_skips_attempted`, `phase_lease_contention` and
    /// `prompt_drift_detected` by name, all others together
    /// @param value by how much the count rises: a finite number from 0 on. Default 1.
    /// @param metadata facts for those who read the file: an object, written as `JSON.stringify` does. Default `{}`.
    #[napi(
        ts_args_type = "name: string, value?: number, metadata?: Record<string, unknown>",
        ts_return_type = "Promise<void>",
        catch_unwind
    )]
    pub fn record_counter<'env>(
        &self,
        env: &'env Env,
        name: Unknown<'env>,
        value: Unknown<'env>,
        metadata: Unknown<'env>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let line = || -> Result<Vec<u8>> {
            let name = non_empty_text(name, "name")?;
            let is_undefined = |value: &Unknown<'_>| value.get_type().ok() == Some(ValueType::Undefined);
            let accepted = |number: f64| number.is_finite() && number >= 0.0;
            let value = if is_undefined(&value) {
                1.0
            } else {
                number(value, "value", "a finite number from 0 on", accepted)?
            };
            let metadata = if is_undefined(&metadata) { "{}".to_owned() } else { stringify(env, metadata)? };
            Ok(counter_line(&iso_timestamp(SystemClock.wall_ms()), &name, value, &metadata))
        };
        let line = match line() {
            Ok(line) => line,
            Err(error) => return settled(env, Family::Telemetry, Err(error)),
        };
        let Recording { log, lane } = &*self.shared;
        if let Some(result) = at_once(lane, Operation::RecordCounter, || log.append(&line, Patience::Now)) {
            return settled(env, Family::Telemetry, result);
        }
        let (pending, promise) = Pending::new(env, Family::Telemetry, Operation::RecordCounter)?;
        lane.push((line, pending));
        Ok(promise)
    }
}

/// An object as `JSON.stringify` writes it.
fn stringify(env: &Env, value: Unknown<'_>) -> Result<String> {
    let expected = "an object that JSON.stringify can write as one";
    Fields::required(value, "metadata").map_err(|_| invalid("metadata", expected, value))?;
    let stringify = || -> napi::Result<Unknown<'_>> {
        let namespace: Object<'_> = env.get_global()?.get_named_property("JSON")?;
        let stringify: Function<'_, Unknown<'_>, Unknown<'_>> = namespace.get_named_property("stringify")?;
        stringify.call(value)
    };
    let wrong =
        |actual: &str| Error::InvalidArgument { argument: "metadata", expected, actual: actual.to_owned() };
    let json = match stringify() {
        Ok(json) if json.get_type().ok() == Some(ValueType::String) => json,
        Ok(_) => return Err(wrong("one without a JSON form")),
        Err(error) => return Err(wrong(&format!("one that it refuses ({})", error.reason))),
    };
    let json = json.coerce_to_string().and_then(JsString::into_utf8).map_err(|_| wrong("something else"))?;
    match json.as_str() {
        Ok(json) if json.starts_with('{') => Ok(json.to_owned()),
        _ => Err(wrong("one that it writes as something else")),
    }
}

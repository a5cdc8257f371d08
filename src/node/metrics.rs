//! `metrics`.

use napi_derive::napi;

use super::json::Json;
use crate::metrics;

/// What this process has counted and measured since it started: in all of its threads, over all workspaces. Answers at
/// once, reads no file and can't fail. Every series is there from the start, at 0, and none is ever removed; a figure
/// only grows. What ends with a process is only here; the totals of all processes are in the workspace.
#[napi(ts_return_type = "Metrics", catch_unwind)]
pub fn metrics() -> napi::Result<Json> {
    let json = serde_json::to_string(&metrics::read());
    json.map(Json).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// Counts an error that the package's own JavaScript makes.
#[napi(js_name = "__countError", skip_typescript, catch_unwind)]
pub fn count_error(code: String) {
    metrics::error_of_code(&code);
}

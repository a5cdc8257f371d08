//! The totals of a workspace's leases, for the exporter that comes with the package.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};
use napi_derive::napi;
use serde_json::json;

use super::arguments::path;
use super::call::{Pending, settled, workspace_path};
use super::errors::Family;
use super::json::Json;
use super::leases::STORE_PATIENCE;
use crate::clock::SystemClock;
use crate::lease::{self, LeaseTotals};
use crate::patience::Patience;
use crate::runtime::runtime;

/// The totals of all processes; null if no manager of this version has opened the workspace's database yet. Makes and
/// changes nothing there. Rejects with a `LeaseError`: `INVALID_ARGUMENT`, `IO`, `DATABASE`, `DATABASE_LOCKED`.
#[napi(js_name = "__leaseTotals", skip_typescript, catch_unwind)]
pub fn lease_totals<'env>(
    env: &'env Env,
    workspace_root: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Json>> {
    let root = match path(workspace_root, "workspaceRoot") {
        Ok(root) => workspace_path(root),
        Err(error) => return settled(env, Family::Lease, Err(error)),
    };
    let (pending, promise) = Pending::new(env, Family::Lease)?;
    runtime().spawn_blocking(move || {
        let totals = lease::totals_of(&root, &SystemClock, Patience::lasting(STORE_PATIENCE));
        let json = totals.map(|totals| Json(totals.map_or_else(|| "null".to_owned(), to_json)));
        pending.settle(json.map_err(Arc::new));
    });
    Ok(promise)
}

fn to_json(totals: LeaseTotals) -> String {
    json!({
        "acquired": totals.acquired,
        "contended": totals.contended,
        "acquireErrors": totals.acquire_errors,
        "renewed": totals.renewed,
        "renewalsRefused": totals.renewals_refused,
        "renewalErrors": totals.renewal_errors,
        "takeoversExpired": totals.takeovers_expired,
        "takeoversDeadHolder": totals.takeovers_dead_holder,
        "forcedReleases": totals.forced_releases,
        "finishedHolds": totals.finished_holds,
        "finishedHoldSeconds": seconds(totals.finished_hold_ms),
        "active": totals.active,
        "expired": totals.expired,
        "oldestAgeSeconds": seconds(totals.oldest_age_ms.unsigned_abs()),
        "waiters": totals.waiters,
    })
    .to_string()
}

#[allow(clippy::cast_precision_loss, reason = "durations stay below 2^53 ms")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

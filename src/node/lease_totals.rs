//! The totals of a workspace's leases, for the exporter that comes with the package.

use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, Unknown};
use napi_derive::napi;

use super::arguments::path;
use super::call::{Pending, settled, workspace_path};
use super::errors::Family;
use super::json::Json;
use super::lease_shapes::count;
use super::leases::STORE_PATIENCE;
use super::store::{Store, leases_at};
use crate::clock::SystemClock;
use crate::lease::{self, LeaseTotals};
use crate::patience::Patience;
use crate::runtime::runtime;

/// The totals of all processes; null if no manager of this version has opened the workspace's database, or made the
/// schema on the server that `options.store` or the environment names. Makes and changes nothing there. Rejects with a
/// `LeaseError`: `INVALID_ARGUMENT`, `IO`, `DATABASE`, `DATABASE_LOCKED`, `SERVER`, `SERVER_UNREACHABLE`.
#[napi(js_name = "__leaseTotals", skip_typescript, catch_unwind)]
pub fn lease_totals<'env>(
    env: &'env Env,
    workspace_root: Unknown<'env>,
    options: Option<Unknown<'env>>,
) -> napi::Result<PromiseRaw<'env, Json>> {
    let read = || Ok((workspace_path(path(workspace_root, "workspaceRoot")?), Store::of_options(options)?));
    let (root, store) = match read() {
        Ok(read) => read,
        Err(error) => return settled(env, Family::Lease, Err(error)),
    };
    let (pending, promise) = Pending::new(env, Family::Lease, None)?;
    runtime().spawn_blocking(move || {
        let totals = match store {
            Store::Workspace => lease::totals_of(&root, &SystemClock, Patience::lasting(STORE_PATIENCE)),
            Store::Server(url) => {
                leases_at(&url, &root).and_then(|store| store.totals_if_any(STORE_PATIENCE))
            }
        };
        let json = totals.map(|totals| Json(totals.map_or_else(|| "null".to_owned(), to_json)));
        pending.settle(json.map_err(Arc::new));
    });
    Ok(promise)
}

fn to_json(totals: LeaseTotals) -> String {
    let figures: [(&str, f64); 15] = [
        ("acquired", count(totals.acquired)),
        ("contended", count(totals.contended)),
        ("acquireErrors", count(totals.acquire_errors)),
        ("renewed", count(totals.renewed)),
        ("renewalsRefused", count(totals.renewals_refused)),
        ("renewalErrors", count(totals.renewal_errors)),
        ("takeoversExpired", count(totals.takeovers_expired)),
        ("takeoversDeadHolder", count(totals.takeovers_dead_holder)),
        ("forcedReleases", count(totals.forced_releases)),
        ("finishedHolds", count(totals.finished_holds)),
        ("finishedHoldSeconds", seconds(totals.finished_hold_ms)),
        ("active", count(totals.active)),
        ("expired", count(totals.expired)),
        ("oldestAgeSeconds", seconds(totals.oldest_age_ms.unsigned_abs())),
        ("waiters", count(totals.waiters)),
    ];
    let members = figures.map(|(name, figure)| format!("\"{name}\":{figure}"));
    format!("{{{}}}", members.join(","))
}

#[allow(clippy::cast_precision_loss, reason = "durations stay below 2^53 ms")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

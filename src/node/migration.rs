//! Moving a workspace's state from one store to another, for the command that comes with the package.

use std::path::PathBuf;
use std::sync::Arc;

use napi::Env;
use napi::bindgen_prelude::{Function, PromiseRaw, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;

use super::arguments::{non_empty_text, path};
use super::call::{Pending, settled, workspace_path};
use super::errors::Family;
use super::json::Json;
use crate::clock::{Clock, SystemClock};
use crate::error::Result;
use crate::migration::{Part, Place, Progress, Report, migrate};
use crate::runtime::runtime;

/// A side of a migration. May hold a password, so it can't be shown.
enum Side {
    Workspace(PathBuf),
    Server(String),
}

impl Side {
    fn read(value: Unknown<'_>, argument: &'static str) -> Result<Self> {
        let text = non_empty_text(value, argument)?.to_string_lossy().into_owned();
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Server(text));
        }
        Ok(Self::Workspace(workspace_path(path(value, argument)?)))
    }

    fn place(&self) -> Place<'_> {
        match self {
            Self::Workspace(root) => Place::Workspace(root),
            Self::Server(url) => Place::Server(url),
        }
    }
}

/// Copies what the first place has and the second has not; see the core. `tell` hears how far it is. Rejects with a
/// `DriftlockError`.
#[napi(js_name = "__migrate", skip_typescript, catch_unwind)]
pub fn migrate_state<'env>(
    env: &'env Env,
    from: Unknown<'env>,
    to: Unknown<'env>,
    is_dry_run: bool,
    tell: Function<'env, Json, ()>,
) -> napi::Result<PromiseRaw<'env, Json>> {
    let (from, to) = match Side::read(from, "from").and_then(|from| Ok((from, Side::read(to, "to")?))) {
        Ok(sides) => sides,
        Err(error) => return settled(env, Family::General, Err(error)),
    };
    let tell = tell.build_threadsafe_function().weak::<true>().build()?;
    let tell = move |Progress { what, copied, of }| {
        let progress = format!("{{\"what\":\"{what}\",\"copied\":{copied},\"of\":{of}}}");
        tell.call(Json(progress), ThreadsafeFunctionCallMode::NonBlocking);
    };
    let (pending, promise) = Pending::new(env, Family::General, None)?;
    runtime().spawn_blocking(move || {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let run = || -> Result<Json> {
            let (source, target) = (from.place().shown()?, to.place().shown()?);
            let report = migrate(from.place(), to.place(), &clock, is_dry_run, &tell)?;
            Ok(Json(to_json(&source, &target, &report)))
        };
        pending.settle(run().map_err(Arc::new));
    });
    Ok(promise)
}

fn to_json(from: &str, to: &str, report: &Report) -> String {
    let Report { entries, attestations, resets, baselines, leases, left_out } = report;
    let parts = [
        ("entries", entries),
        ("attestations", attestations),
        ("resets", resets),
        ("baselines", baselines),
        ("leases", leases),
    ];
    let parts = parts.map(|(name, Part { total, copied })| {
        format!("\"{name}\":{{\"total\":{total},\"copied\":{copied}}}")
    });
    let (from, to) = (serde_json::Value::from(from), serde_json::Value::from(to));
    format!("{{\"from\":{from},\"to\":{to},{},\"leftOut\":{left_out}}}", parts.join(","))
}

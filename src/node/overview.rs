//! What the command asks of a server, for which a workspace has files.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue, Unknown};
use napi_derive::napi;

use super::arguments::{number, whole_number};
use super::call::{Pending, settled};
use super::errors::{Family, to_js};
use super::json::{Json, parse_lines};
use super::store::{Store, leases_at};
use crate::attestation::PostgresAttestations;
use crate::error::{Error, Result};
use crate::ledger::{LedgerStore, PostgresLedger};
use crate::patience::Patience;
use crate::runtime::runtime;

/// How long each request waits for the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// What somebody has made on the server that the environment names: `{ leases, attestations, ledger }`. Makes nothing.
#[napi(js_name = "__serverParts", skip_typescript, catch_unwind)]
pub fn server_parts(env: &Env) -> napi::Result<PromiseRaw<'_, Json>> {
    answer(env, |url| {
        let leases = leases_at(url, Path::new("."))?.exists(PATIENCE)?;
        let attestations = PostgresAttestations::new(url)?.is_made(PATIENCE)?;
        let ledger = PostgresLedger::new(url)?.is_made(PATIENCE)?;
        Ok(Json(format!("{{\"leases\":{leases},\"attestations\":{attestations},\"ledger\":{ledger}}}")))
    })
}

/// The server's address, database and schema, without credentials.
#[napi(js_name = "__serverAddress", skip_typescript, catch_unwind)]
pub fn server_address(env: Env) -> napi::Result<String> {
    let address = || match Store::of_environment()? {
        Store::Server(url) => Ok(PostgresLedger::new(&url)?.location().to_string()),
        Store::Workspace => Err(no_server()),
    };
    address().map_err(|error| to_js(&env, Family::General, &error))
}

/// Whether the server's notifications come to this process.
#[napi(js_name = "__serverNotifies", skip_typescript, catch_unwind)]
pub fn server_notifies(env: &Env) -> napi::Result<PromiseRaw<'_, bool>> {
    answer(env, |url| leases_at(url, Path::new("."))?.is_notified())
}

/// What has drifted since a time, in milliseconds since the Unix epoch: `{ attestations, drift }`.
#[napi(js_name = "__driftsSince", skip_typescript, catch_unwind)]
pub fn drifts_since<'env>(env: &'env Env, since_ms: Unknown<'env>) -> napi::Result<PromiseRaw<'env, Json>> {
    let since = number(since_ms, "since", "a time", |number| number.is_finite() && number >= 0.0);
    let since = match since {
        Ok(since) => UNIX_EPOCH + Duration::from_secs_f64(since.min(1e15) / 1000.0),
        Err(error) => return settled(env, Family::Attestation, Err(error)),
    };
    answer(env, move |url| {
        let drifts = PostgresAttestations::new(url)?.drifts_since(since, PATIENCE)?;
        let Json(lines) = parse_lines(&drifts.lines);
        Ok(Json(format!("{{\"attestations\":{},\"drift\":{lines}}}", drifts.attestations)))
    })
}

/// All baselines, as the file of baselines would have them.
#[napi(js_name = "__baselines", skip_typescript, catch_unwind)]
pub fn baselines(env: &Env) -> napi::Result<PromiseRaw<'_, Json>> {
    answer(env, |url| {
        let mut json = b"{".to_vec();
        for (key, baseline) in &PostgresAttestations::new(url)?.baselines()? {
            if json.len() > 1 {
                json.push(b',');
            }
            baseline.write_entry(key, &mut json);
        }
        json.push(b'}');
        Ok(Json(String::from_utf8_lossy(&json).into_owned()))
    })
}

/// The last entries of the ledger, oldest first.
#[napi(js_name = "__ledgerEnd", skip_typescript, catch_unwind)]
pub fn ledger_end<'env>(env: &'env Env, entries: Unknown<'env>) -> napi::Result<PromiseRaw<'env, Json>> {
    let entries = match whole_number(entries, "entries") {
        Ok(entries) => entries,
        Err(error) => return settled(env, Family::Ledger, Err(error)),
    };
    answer(env, move |url| {
        let (ledger, mut lines) = (PostgresLedger::new(url)?, Vec::new());
        let total = ledger.stats(Patience::lasting(PATIENCE))?.total_entries;
        ledger.read_lines(total.saturating_sub(entries), Patience::lasting(PATIENCE), |more| {
            lines.extend(more);
            Ok(())
        })?;
        Ok(parse_lines(&lines))
    })
}

fn answer<T: ToNapiValue + Send + 'static>(
    env: &Env,
    work: impl FnOnce(&str) -> Result<T> + Send + 'static,
) -> napi::Result<PromiseRaw<'_, T>> {
    let (pending, promise) = Pending::new(env, Family::General, None)?;
    let store = Store::of_environment();
    runtime().spawn_blocking(move || {
        let result = store.and_then(|store| match store {
            Store::Server(url) => work(&url),
            Store::Workspace => Err(no_server()),
        });
        pending.settle(result.map_err(Arc::new));
    });
    Ok(promise)
}

fn no_server() -> Error {
    Error::Defect("no server is named".to_owned())
}

//! What the command `driftlock exporter` is made of: the totals of a workspace, as JSON.

use std::sync::{Arc, Mutex, PoisonError};

use napi::Env;
use napi::bindgen_prelude::{External, PromiseRaw, Unknown, ValueType};
use napi_derive::napi;

use super::arguments::{Fields, boolean, number, path};
use super::call::{Pending, settled, workspace_path};
use super::errors::{Family, to_js};
use super::json::Json;
use crate::error::Result;
use crate::lane::Lane;
use crate::telemetry::exporter::{Exporter, Polled, Start, Store, name_of};
use crate::telemetry::{STORE_TOTALS, Source, StoreTotals, Totals};
use crate::text::Text;

/// An exporter. JavaScript only passes it back.
pub struct ExporterHandle {
    exporter: Arc<Mutex<Exporter>>,
    lane: Arc<Lane<Box<dyn FnOnce() + Send>>>,
    gives_differences: bool,
}

/// Becomes the exporter of a workspace; with `look` only reads what that knows. `fromNow`: what is there already doesn't
/// count, if nothing was ever counted. `differences`: polls also give what was counted since the one before.
#[napi(js_name = "__exporterOpen", skip_typescript, catch_unwind)]
pub fn exporter_open(
    env: Env,
    workspace_root: Unknown<'_>,
    options: Unknown<'_>,
) -> napi::Result<External<ExporterHandle>> {
    let open = || -> Result<ExporterHandle> {
        let workspace = workspace_path(path(workspace_root, "workspaceRoot")?);
        let options = Fields::required(options, "options")?;
        let flag = |name| Ok(options.read(name, boolean)?.unwrap_or(false));
        let start = if flag("fromNow")? { Start::Now } else { Start::Beginning };
        let (look, gives_differences) = (flag("look")?, flag("differences")?);
        let mut exporter =
            if look { Exporter::look(&workspace, start)? } else { Exporter::open(&workspace, start)? };
        if gives_differences {
            exporter.begin_differences();
        }
        Ok(ExporterHandle {
            exporter: Arc::new(Mutex::new(exporter)),
            lane: Lane::new(1, |jobs: Vec<Box<dyn FnOnce() + Send>>| jobs.into_iter().for_each(|job| job())),
            gives_differences,
        })
    };
    open().map(External::new).map_err(|error| to_js(&env, Family::Telemetry, &error))
}

/// Counts what is new. `store` is what `__leaseTotals` answered; undefined if it failed. Gives
/// `{families, differences?, unreadBytes, truncations, problems}`.
#[napi(js_name = "__exporterPoll", skip_typescript, catch_unwind)]
pub fn exporter_poll<'env>(
    env: &'env Env,
    handle: &External<ExporterHandle>,
    store: Unknown<'env>,
) -> napi::Result<PromiseRaw<'env, Json>> {
    let store = match read_store(store) {
        Ok(store) => store,
        Err(error) => return settled(env, Family::Telemetry, Err(error)),
    };
    let gives_differences = handle.gives_differences;
    answer(env, handle, move |exporter| {
        let mut polled = exporter.poll(store);
        let differences = if gives_differences {
            exporter.take_differences().map_err(|error| polled.problems.push(error)).ok()
        } else {
            None
        };
        Ok(Json(describe(exporter, &polled, differences.as_ref())))
    })
}

/// Takes note that what was shown has been seen.
#[napi(js_name = "__exporterScraped", skip_typescript, catch_unwind)]
pub fn exporter_scraped<'env>(
    env: &'env Env,
    handle: &External<ExporterHandle>,
) -> napi::Result<PromiseRaw<'env, ()>> {
    answer(env, handle, Exporter::was_scraped)
}

fn answer<'env, T: napi::bindgen_prelude::ToNapiValue + Send + 'static>(
    env: &'env Env,
    handle: &ExporterHandle,
    work: impl FnOnce(&mut Exporter) -> Result<T> + Send + 'static,
) -> napi::Result<PromiseRaw<'env, T>> {
    let (pending, promise) = Pending::new(env, Family::Telemetry, None)?;
    let exporter = Arc::clone(&handle.exporter);
    handle.lane.push(Box::new(move || {
        let result = work(&mut exporter.lock().unwrap_or_else(PoisonError::into_inner));
        pending.settle(result.map_err(Arc::new));
    }));
    Ok(promise)
}

fn read_store(store: Unknown<'_>) -> Result<Store> {
    match store.get_type() {
        Ok(ValueType::Undefined) => Ok(Store::Unknown),
        Ok(ValueType::Null) => Ok(Store::Absent),
        _ => {
            let fields = Fields::required(store, "store")?;
            let expected = "a finite number from 0 on";
            let accepted = |number: f64| number.is_finite() && number >= 0.0;
            let mut totals: StoreTotals = [0.0; STORE_TOTALS.len()];
            for ((name, ..), total) in STORE_TOTALS.iter().zip(&mut totals) {
                let read = |value, name| number(value, name, expected, accepted);
                *total = fields.read_required(name, expected, read)?;
            }
            Ok(Store::Totals(totals))
        }
    }
}

fn describe(exporter: &Exporter, polled: &Polled, differences: Option<&Totals>) -> String {
    let mut json = b"{\"families\":".to_vec();
    write_families(&exporter.shown(), &mut json);
    if let Some(differences) = differences {
        json.extend_from_slice(b",\"differences\":");
        write_families(differences, &mut json);
    }
    for (name, numbers) in [("unreadBytes", polled.unread_bytes), ("truncations", exporter.truncations())] {
        let by_file =
            Source::ALL.map(|source| format!("\"{}\":{}", name_of(source), numbers[source as usize]));
        json.extend_from_slice(format!(",\"{name}\":{{{}}}", by_file.join(",")).as_bytes());
    }
    json.extend_from_slice(b",\"problems\":[");
    for (position, problem) in polled.problems.iter().enumerate() {
        if position > 0 {
            json.push(b',');
        }
        Text::from(problem.to_string()).write_json(&mut json);
    }
    json.extend_from_slice(b"]}");
    String::from_utf8_lossy(&json).into_owned()
}

fn write_families(totals: &Totals, json: &mut Vec<u8>) {
    json.push(b'[');
    totals.for_each(|family, totals| {
        if !json.ends_with(b"[") {
            json.push(b',');
        }
        family.write_json(totals, json);
    });
    json.push(b']');
}

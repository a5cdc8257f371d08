//! `metrics`.

use std::fmt::Write;

use napi_derive::napi;

use super::json::Json;
use crate::metrics::{self, CounterFamily, HistogramFamily};

/// What this process has counted and measured since it started: in all of its threads, over all workspaces. Answers at
/// once, reads no file and can't fail. Every series is there from the start, at 0, and none is ever removed; a figure
/// only grows. What ends with a process is only here; the totals of all processes are in the workspace.
#[napi(ts_return_type = "Metrics", catch_unwind)]
pub fn metrics() -> Json {
    let metrics = metrics::read();
    let mut json = String::with_capacity(32 * 1024);
    json.push_str("{\"counters\":");
    list(&mut json, &metrics.counters, counter);
    json.push_str(",\"histograms\":");
    list(&mut json, &metrics.histograms, histogram);
    json.push('}');
    Json(json)
}

/// Counts an error that the package's own JavaScript makes.
#[napi(js_name = "__countError", skip_typescript, catch_unwind)]
pub fn count_error(code: String) {
    metrics::error_of_code(&code);
}

fn counter(json: &mut String, family: &CounterFamily) {
    head(json, family.name, family.help);
    list(json, &family.series, |json, series| {
        labels(json, &series.labels);
        put(json, format_args!(",\"value\":{}}}", series.value));
    });
    json.push('}');
}

fn histogram(json: &mut String, family: &HistogramFamily) {
    head(json, family.name, family.help);
    list(json, &family.series, |json, series| {
        labels(json, &series.labels);
        json.push_str(",\"buckets\":");
        list(json, &series.buckets, |json, bucket| {
            put(json, format_args!("{{\"le\":{},\"count\":{}}}", bucket.le, bucket.count));
        });
        put(json, format_args!(",\"sum\":{},\"count\":{}}}", series.sum, series.count));
    });
    json.push('}');
}

/// Names and values are from closed lists, and need no escapes.
fn head(json: &mut String, name: &str, help: &str) {
    put(json, format_args!("{{\"name\":\"{name}\",\"help\":\"{help}\",\"series\":"));
}

fn labels(json: &mut String, labels: &[(&str, &str)]) {
    json.push_str("{\"labels\":{");
    for (position, (name, value)) in labels.iter().enumerate() {
        let comma = if position > 0 { "," } else { "" };
        put(json, format_args!("{comma}\"{name}\":\"{value}\""));
    }
    json.push('}');
}

fn list<T>(json: &mut String, items: &[T], item: fn(&mut String, &T)) {
    json.push('[');
    for (position, value) in items.iter().enumerate() {
        if position > 0 {
            json.push(',');
        }
        item(json, value);
    }
    json.push(']');
}

fn put(json: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = json.write_fmt(text);
}

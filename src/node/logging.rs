//! Where events go, as JavaScript sets it.

use std::sync::Arc;

use napi::Env;
use napi::Status;
use napi::bindgen_prelude::{Function, Unknown, ValueType};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use super::arguments::{invalid, text};
use super::errors::{Family, to_js};
use crate::log::{self, Level};

type JsSink = ThreadsafeFunction<String, (), String, Status, false, true>;

/// Sends events, as JSON text, to a function. The package parses them before the application's own function sees
/// them.
#[napi(js_name = "__setLogSink", skip_typescript, catch_unwind)]
pub fn set_log_sink(env: Env, sink: Option<Function<'_, String, ()>>) -> napi::Result<()> {
    let Some(sink) = sink else {
        log::set_sink(None);
        return Ok(());
    };
    // Weak, so that it keeps no process alive.
    let sink: JsSink = sink.build_threadsafe_function().weak::<true>().build()?;
    let sink = Arc::new(sink);
    log::set_sink(Some(Arc::new(move |_, event: &str| {
        sink.call(event.to_owned(), ThreadsafeFunctionCallMode::NonBlocking);
    })));
    // A sink that outlived its thread's JavaScript would swallow the events of the other threads.
    env.add_env_cleanup_hook((), |()| log::set_sink(None))?;
    Ok(())
}

/// Sets which events are logged: those of this level and above. Overrides the environment variable `DRIFTLOCK_LOG`.
///
/// @param level `'info'`, `'warning'` (the default), `'error'` or `'silent'`
/// @throws {DriftlockError} `INVALID_ARGUMENT` for anything else
#[napi(ts_args_type = "level: LogLevel", catch_unwind)]
pub fn set_log_level(env: Env, level: Unknown<'_>) -> napi::Result<()> {
    let wrong = || {
        let error = invalid("level", "'info', 'warning', 'error' or 'silent'", level);
        Err(to_js(&env, Family::General, &error))
    };
    if level.get_type()? != ValueType::String {
        return wrong();
    }
    let Ok(name) = text(level, "level") else { return wrong() };
    match name.as_str() {
        Some("info") => log::set_level(Some(Level::Info)),
        Some("warning") => log::set_level(Some(Level::Warning)),
        Some("error") => log::set_level(Some(Level::Error)),
        Some("silent") => log::set_level(None),
        _ => return wrong(),
    }
    Ok(())
}

//! Events for people: one JSON line on standard error, or a sink of the application's own.

use std::io::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::clock::{Clock, SystemClock, iso_timestamp};
use crate::text::Text;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something went as it should. Off by default.
    Info = 1,
    /// Something was wrong and was survived.
    Warning = 2,
    /// Something was wrong and a call failed for it.
    Error = 3,
}

impl Level {
    /// The level's name in an event.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The environment variable that sets the lowest level that is logged: `info`, `warning`, `error` or `silent`.
pub const LEVEL_VARIABLE: &str = "DRIFTLOCK_LOG";

const UNSET: u8 = 0;
const SILENT: u8 = 4;

/// Receives each event as one JSON object without a line end.
pub type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

static THRESHOLD: AtomicU8 = AtomicU8::new(UNSET);
static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// Sends events to `sink` instead of standard error; `None` goes back to standard error.
pub fn set_sink(sink: Option<Sink>) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = sink;
}

/// Sets the lowest level that is logged; `None` logs nothing. Overrides the environment variable.
pub fn set_level(level: Option<Level>) {
    THRESHOLD.store(level.map_or(SILENT, |level| level as u8), Ordering::Relaxed);
}

/// Whether events of this level are logged.
#[must_use]
pub fn enabled(level: Level) -> bool {
    let mut threshold = THRESHOLD.load(Ordering::Relaxed);
    if threshold == UNSET {
        threshold = match std::env::var(LEVEL_VARIABLE).as_deref() {
            Ok("info" | "debug") => Level::Info as u8,
            Ok("error") => Level::Error as u8,
            Ok("silent" | "off" | "none") => SILENT,
            _ => Level::Warning as u8,
        };
        THRESHOLD.store(threshold, Ordering::Relaxed);
    }
    level as u8 >= threshold
}

/// Logs an event, with further fields in the order given.
pub fn event(level: Level, message: &str, fields: &[(&str, &str)]) {
    if !enabled(level) {
        return;
    }
    let mut line = Vec::with_capacity(160);
    line.extend_from_slice(b"{\"level\":\"");
    line.extend_from_slice(level.as_str().as_bytes());
    line.push(b'"');
    let timestamp = iso_timestamp(SystemClock.wall_ms());
    for (name, value) in [("message", message), ("timestamp", timestamp.as_str())].iter().chain(fields) {
        line.push(b',');
        Text::from(*name).write_json(&mut line);
        line.push(b':');
        Text::from(*value).write_json(&mut line);
    }
    line.push(b'}');
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sink) = sink {
        sink(level, &String::from_utf8_lossy(&line));
    } else {
        line.push(b'\n');
        // Nobody is left to tell when standard error is closed.
        let _ = std::io::stderr().lock().write_all(&line);
    }
}

/// Logs a warning.
pub fn warning(message: &str, fields: &[(&str, &str)]) {
    event(Level::Warning, message, fields);
}

//! Appending counters to a file that other programs append to as well.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Source, TELEMETRY_FOLDER};
use crate::error::{Error, Result};
use crate::journal::{Journal, JournalLock};
use crate::patience::Patience;
use crate::shared::Shared;
use crate::text::Text;

/// The counters of one workspace, shared by all who record in this process.
#[derive(Debug)]
pub struct CounterLog {
    path: PathBuf,
    state: Mutex<(JournalLock, Journal)>,
}

impl CounterLog {
    /// The counters of the workspace at `workspace`. Does no I/O.
    #[must_use]
    pub fn new(workspace: &Path) -> Self {
        let path = workspace.join(Source::Counters.path());
        let lock = JournalLock::new(workspace.join(TELEMETRY_FOLDER).join(".counters.lock"));
        Self { state: Mutex::new((lock, Journal::new(path.clone()))), path }
    }

    /// The one log of this process for the workspace.
    pub fn shared(workspace: &Path) -> Arc<Self> {
        static LOGS: Shared<CounterLog> = Shared::new();
        LOGS.get(workspace, || Self::new(workspace))
    }

    /// Appends whole lines by one write, making the file and its folders if they are absent.
    ///
    /// If it fails, the first lines may have been written, never a part of one that counts.
    pub fn append(&self, lines: &[u8], patience: Patience) -> Result<()> {
        let mut state = patience
            .lock(&self.state)
            .ok_or_else(|| Error::JournalLocked { path: self.path.clone(), waited: Duration::ZERO })?;
        let (lock, journal) = &mut *state;
        let _guard = lock.acquire(patience)?;
        journal.append_beside_others(lines)
    }
}

/// The line of a counter, with its line end. `value` must be finite, `metadata` JSON.
#[must_use]
pub fn counter_line(timestamp: &str, counter: &Text, value: f64, metadata: &str) -> Vec<u8> {
    let mut line = Vec::with_capacity(96 + metadata.len());
    line.extend_from_slice(b"{\"timestamp\":\"");
    line.extend_from_slice(timestamp.as_bytes());
    line.extend_from_slice(b"\",\"counter\":");
    counter.write_json(&mut line);
    line.extend_from_slice(b",\"value\":");
    line.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    line.extend_from_slice(b",\"metadata\":");
    line.extend_from_slice(metadata.as_bytes());
    line.extend_from_slice(b"}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, CounterLog) {
        let folder = tempfile::tempdir().unwrap();
        let log = CounterLog::new(folder.path());
        (folder, log)
    }

    #[test]
    fn a_line_is_as_javascript_writes_it() {
        let name = Text::from_utf16(&[0x61, 0xD83D]);
        let line = counter_line("2026-01-01T00:00:00.000Z", &name, 1e21, "{\"a\":[1]}");
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"counter\":\"a\\ud83d\",\"value\":1e+21,\
             \"metadata\":{\"a\":[1]}}\n"
        );
    }

    #[test]
    fn a_half_line_of_somebody_else_is_ended_and_never_cut() {
        let (_folder, log) = log();
        log.append(b"{}\n", Patience::Now).unwrap();
        std::fs::write(&log.path, "{}\n{\"half\":").unwrap();
        log.append(b"{\"a\":1}\n", Patience::Now).unwrap();
        assert_eq!(std::fs::read_to_string(&log.path).unwrap(), "{}\n{\"half\":\n{\"a\":1}\n");
        log.append(b"{\"b\":2}\n", Patience::Now).unwrap();
        assert!(std::fs::read_to_string(&log.path).unwrap().ends_with("{\"a\":1}\n{\"b\":2}\n"));
    }

    #[test]
    fn after_a_rotation_by_rename_a_new_file_is_made() {
        let (_folder, log) = log();
        log.append(b"{}\n", Patience::Now).unwrap();
        std::fs::rename(&log.path, log.path.with_extension("jsonl.1")).unwrap();
        log.append(b"{\"a\":1}\n", Patience::Now).unwrap();
        assert_eq!(std::fs::read_to_string(&log.path).unwrap(), "{\"a\":1}\n");
    }
}

//! What can be saved of a damaged baselines file.
//!
//! Entries that are still whole are taken as they are. For the others the logs are the journal: the newest record of
//! a task and phase names the baseline that it was compared with, or was itself the first, and the updates log has
//! every reset.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::baseline::{self, Baseline};
use super::record::Record;
use crate::durability::Durability;
use crate::error::{IoContext, Result};
use crate::journal::lenient;
use crate::journal::reader::for_each_line;
use crate::journal::writer::damaged_path;
use crate::json;
use crate::log;
use crate::text::Text;

/// Baselines by key.
pub type Baselines = BTreeMap<Text, Baseline>;

/// The whole entries of a damaged file.
#[must_use]
pub fn whole_entries(content: &[u8]) -> Baselines {
    let mut saved = Baselines::new();
    let mut at = 0;
    while let Some(quote) = memchr::memchr(b'"', &content[at..]) {
        at += quote;
        let Ok(entry) = json::entry_at(content, at) else {
            at += 1;
            continue;
        };
        let value = &content[entry.value.clone()];
        let baseline = baseline_entry(&content[entry.key], value);
        // What is inside of a whole value is not an entry of this file, whatever it looks like.
        at = if baseline.is_some() || matches!(value.first(), Some(b'{' | b'[')) {
            entry.value.end
        } else {
            at + 1
        };
        saved.extend(baseline);
    }
    saved
}

/// An entry, if it can only be one: its key is `taskId:phase` and its value has a hash.
fn baseline_entry(quoted_key: &[u8], value: &[u8]) -> Option<(Text, Baseline)> {
    let key = json::text(quoted_key).filter(|key| key.as_wtf8().contains(&b':'))?;
    let baseline = Baseline::from_json(value)?;
    let is_bare = value.first() == Some(&b'"');
    let looks_like_hash = baseline.hash.as_wtf8().iter().all(u8::is_ascii_hexdigit);
    (!is_bare || looks_like_hash).then_some((key, baseline))
}

/// Rebuilds baselines from the attestations log and the updates log. Files that are absent or can't be read count as
/// empty.
#[must_use]
pub fn from_logs(log: &Path, updates: &Path) -> Baselines {
    let mut rebuilt = Baselines::new();
    each_line(log, |line| {
        let Some(record) = Record::from_line(line) else { return };
        let (Some(task), Some(phase), Some(hash)) = (record.task_id, record.phase, record.prompt_hash) else {
            return;
        };
        let key = baseline::key(&task, &phase);
        let first = record.baseline_hash.is_none();
        let hash = record.baseline_hash.unwrap_or(hash);
        if hash.is_empty() || rebuilt.get(&key).is_some_and(|known| known.hash == hash && !first) {
            return;
        }
        rebuilt.insert(
            key,
            Baseline {
                hash,
                version: record.baseline_version.unwrap_or(1),
                updated_at: record.timestamp.unwrap_or_default(),
                persona_hash: if first { record.persona_hash } else { None },
                updated_by: None,
                reason: None,
                version_tag: None,
            },
        );
    });
    each_line(updates, |line| {
        let Ok(update) = serde_json::from_slice::<Update>(line) else { return };
        let (Some(task), Some(phase)) = (update.task_id, update.phase) else { return };
        let Some(reset) = Baseline::from_json(line) else { return };
        let key = baseline::key(&task, &phase);
        if rebuilt.get(&key).is_none_or(|known| known.version <= reset.version) {
            rebuilt.insert(key, reset);
        }
    });
    rebuilt
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    #[serde(default, deserialize_with = "lenient")]
    task_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    phase: Option<Text>,
}

fn each_line(path: &Path, mut take: impl FnMut(&[u8])) {
    let Ok(file) = File::open(path) else { return };
    let Ok(metadata) = file.metadata() else { return };
    let _ = for_each_line(&file, 0, metadata.len(), |_, line| take(line));
}

/// Keeps a copy of a damaged file under another name beside its own, and says so in the log.
pub fn keep_aside(path: &Path, saved: usize, rebuilt: usize, durability: Durability) -> Result<PathBuf> {
    let aside = damaged_path(path);
    let kept = std::fs::copy(path, &aside).context("keep a copy of the damaged file", path).and_then(|_| {
        match durability {
            Durability::PowerCut => {
                File::open(&aside).and_then(|copy| copy.sync_all()).context("sync", &aside)
            }
            Durability::Process => Ok(()),
        }
    });
    if let Err(error) = kept {
        // The next try makes another copy: on a full disk half copies would only pile up.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    log::warning(
        "The baselines file was damaged; it was put aside and what could be read or rebuilt was kept",
        &[
            ("file", &path.to_string_lossy()),
            ("kept_as", &aside.to_string_lossy()),
            ("entries_read", &saved.to_string()),
            ("entries_rebuilt", &rebuilt.to_string()),
        ],
    );
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(baselines: &Baselines) -> Vec<(String, String)> {
        baselines.iter().map(|(key, baseline)| (key.to_string(), baseline.hash.to_string())).collect()
    }

    #[test]
    fn whole_entries_survive_on_both_sides_of_the_damage() {
        let content = b"{\n\"a:PLAN\":{\"hash\":\"1\",\"updatedAt\":\"2026-01-01T00:00:00Z\"},\n\
            \"b:PLAN\":{\"hash\":\"2\0\0\0\",\"upda\n\"c:PLAN\":{\"hash\":\"3\"},\n\"d:PLAN\":\"ab12\",\n\"e:PLAN\":{\"ha";
        let saved = whole_entries(content);
        assert_eq!(
            hashes(&saved),
            [("a:PLAN".into(), "1".into()), ("c:PLAN".into(), "3".into()), ("d:PLAN".into(), "ab12".into())]
        );
    }

    #[test]
    fn what_is_inside_of_a_value_is_no_entry() {
        let content =
            b"{\"a:PLAN\":{\"hash\":\"1\"},\"notes\":{\"a:PLAN\":{\"hash\":\"9\"},\"x:y\":{\"hash\":\"8\"}},\"b:P";
        assert_eq!(hashes(&whole_entries(content)), [("a:PLAN".into(), "1".into())]);
    }

    #[test]
    fn nothing_is_made_up() {
        for content in [&b""[..], b"garbage", b"\0\0\0", b"{\"hash\":\"12\"}", b"[\"a:b\", \"c\"]"] {
            assert!(whole_entries(content).is_empty());
        }
    }

    #[test]
    fn the_logs_tell_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let (log, updates) = (folder.path().join("log"), folder.path().join("updates"));
        std::fs::write(
            &log,
            concat!(
                "{\"task_id\":\"a\",\"phase\":\"PLAN\",\"prompt_hash\":\"1\",\"persona_hash\":\"p\",\"baseline_version\":1}\n",
                "{\"task_id\":\"a\",\"phase\":\"PLAN\",\"prompt_hash\":\"9\",\"baseline_hash\":\"1\",\"baseline_version\":1}\n",
                "damaged\n",
                "{\"task_id\":\"b\",\"phase\":\"PLAN\",\"prompt_hash\":\"2\"}\n",
                "{\"task_id\":\"c\",\"phase\":\"PLAN\",\"prompt_hash\":\"8\",\"baseline_hash\":\"3\",\"baseline_version\":2}\n",
            ),
        )
        .unwrap();
        std::fs::write(
            &updates,
            concat!(
                "{\"taskId\":\"b\",\"phase\":\"PLAN\",\"hash\":\"4\",\"version\":2,\"updatedAt\":\"t\"}\n",
                "{\"taskId\":\"c\",\"phase\":\"PLAN\",\"hash\":\"7\",\"version\":1,\"updatedAt\":\"t\"}\n",
            ),
        )
        .unwrap();
        let rebuilt = from_logs(&log, &updates);
        assert_eq!(
            hashes(&rebuilt),
            [("a:PLAN".into(), "1".into()), ("b:PLAN".into(), "4".into()), ("c:PLAN".into(), "3".into())]
        );
        assert_eq!(rebuilt[&Text::from("a:PLAN")].persona_hash, Some("p".into()));
        assert!(from_logs(Path::new("/nowhere"), Path::new("/nowhere")).is_empty());
    }
}

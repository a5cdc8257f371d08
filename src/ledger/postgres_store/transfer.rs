//! Entries as they are, to and from another ledger.

use std::time::{Duration, Instant};

use postgres_types::Type;

use super::{PostgresLedger, UPGRADE};
use crate::digest::short_digest;
use crate::error::{Error, Result};
use crate::ledger::entry::StoredEntry;
use crate::patience::Patience;
use crate::text::Text;

impl PostgresLedger {
    /// Whether somebody has made what this store needs of the schema. Makes nothing.
    pub(crate) fn is_made(&self, patience: Duration) -> Result<bool> {
        self.server.is_made(&UPGRADE, Instant::now() + patience)
    }

    /// Gives the entries from a position, counted from 0, on, some at a time.
    pub(crate) fn read_lines(
        &self,
        from: u64,
        patience: Patience,
        take: impl FnMut(Vec<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        self.for_each_piece(None, i64::try_from(from).unwrap_or(i64::MAX), patience, take)
    }

    /// Appends entries as they are, at a position that is the end now.
    pub(crate) fn import(&self, at: u64, lines: &[Vec<u8>], patience: Patience) -> Result<()> {
        let mut task_keys = Vec::with_capacity(lines.len());
        let mut hashes = Vec::with_capacity(lines.len());
        for line in lines {
            let entry = StoredEntry::from_line(line);
            let hash = entry.as_ref().and_then(StoredEntry::entry_hash);
            let hash = hash.and_then(|wtf8| Text::from_wtf8(wtf8.into_owned()));
            // What is no entry has been refused before.
            let hash = hash.ok_or_else(|| Error::Defect("an entry without a hash".to_owned()))?;
            let mut json = Vec::new();
            hash.write_json(&mut json);
            hashes.push(json[1..json.len() - 1].to_vec());
            task_keys.push(short_digest(&entry.and_then(|entry| entry.task()).unwrap_or_default()));
        }
        let first = i64::try_from(at + 1).unwrap_or(i64::MAX);
        self.server.call(&UPGRADE, patience, |attempt| {
            let rows = self.server.function(
                attempt.session,
                "import_entries_1",
                &[
                    (&first, Type::INT8),
                    (&task_keys, Type::INT8_ARRAY),
                    (&hashes, Type::BYTEA_ARRAY),
                    (&lines, Type::BYTEA_ARRAY),
                ],
                attempt.deadline,
            );
            rows.map(drop)
        })
    }
}

//! Records, resets and baselines as they are, to and from another store.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use postgres_types::Type;
use uuid::Uuid;

use super::records::{READ_AT_ONCE, READING, line};
use super::{PostgresAttestations, UPGRADE};
use crate::attestation::baseline::{self, Baseline};
use crate::attestation::record::{Counted, Record};
use crate::attestation::salvage::Baselines;
use crate::clock::parse_timestamp;
use crate::digest::short_digest;
use crate::error::Result;
use crate::json;
use crate::patience::Patience;
use crate::postgres::rows::{count, optional_text, text, value};
use crate::postgres::{Failure, Parameter, Row};
use crate::text::Text;

/// How many baselines are sent at once.
const SENT_AT_ONCE: usize = 256;

impl PostgresAttestations {
    /// Whether somebody has made what this store needs of the schema. Makes nothing.
    pub(crate) fn is_made(&self, patience: Duration) -> Result<bool> {
        self.server.is_made(&UPGRADE, Instant::now() + patience)
    }

    /// Gives all records in their order, some at a time.
    pub(crate) fn read_records(&self, take: impl FnMut(Vec<Vec<u8>>) -> Result<()>) -> Result<()> {
        self.for_each_piece(
            "SELECT * FROM @schema@.attestations WHERE number > $1 ORDER BY number LIMIT $2",
            line,
            take,
        )
    }

    /// Gives all resets in their order, some at a time.
    pub(crate) fn read_resets(&self, take: impl FnMut(Vec<Vec<u8>>) -> Result<()>) -> Result<()> {
        const SQL: &str =
            "SELECT *, NULL::bytea AS persona_hash FROM @schema@.baseline_updates WHERE number > $1
            ORDER BY number LIMIT $2";
        let line = |row: &Row| {
            if let Some(line) = value::<Option<Vec<u8>>>(row, "line")? {
                return Ok(line);
            }
            let mut line = Vec::new();
            baseline_of(row)?.write_update(&text(row, "task")?, &text(row, "phase")?, &mut line);
            Ok(line)
        };
        self.for_each_piece(SQL, line, take)
    }

    fn for_each_piece(
        &self,
        sql: &str,
        line: impl Fn(&Row) -> Result<Vec<u8>, Failure>,
        mut take: impl FnMut(Vec<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        let mut last = 0_i64;
        loop {
            let (next, lines) = self.server.call(&UPGRADE, Patience::lasting(READING), |attempt| {
                let parameters: &[Parameter<'_>] = &[(&last, Type::INT8), (&READ_AT_ONCE, Type::INT8)];
                let rows = self.server.statement(attempt.session, sql, parameters, attempt.deadline)?;
                let next: Option<i64> = rows.last().map(|row| value(row, "number")).transpose()?;
                Ok((next, rows.iter().map(&line).collect::<Result<Vec<_>, _>>()?))
            })?;
            let Some(next) = next else { return Ok(()) };
            last = next;
            take(lines)?;
        }
    }

    /// Records attestations as they are, under these ids.
    pub(crate) fn import_records(&self, ids: &[Uuid], lines: &[Vec<u8>], patience: Patience) -> Result<()> {
        let counted: Vec<Counted<'_>> = lines.iter().filter_map(|line| Counted::from_line(line)).collect();
        let times: Vec<SystemTime> = lines
            .iter()
            .map(|line| time_of(Record::from_line(line).and_then(|record| record.timestamp)))
            .collect();
        let task_keys: Vec<i64> =
            counted.iter().map(|counted| short_digest(counted.task.as_deref().unwrap_or_default())).collect();
        let severities: Vec<&[u8]> = counted.iter().map(|counted| &*counted.severity).collect();
        let are_drifts: Vec<bool> = counted.iter().map(|counted| counted.drifted).collect();
        self.call(
            "import_attestations_1",
            &[
                (&ids, Type::UUID_ARRAY),
                (&times, Type::TIMESTAMPTZ_ARRAY),
                (&task_keys, Type::INT8_ARRAY),
                (&severities, Type::BYTEA_ARRAY),
                (&are_drifts, Type::BOOL_ARRAY),
                (&lines, Type::BYTEA_ARRAY),
            ],
            patience,
        )
    }

    /// Records resets as they are, under these ids.
    pub(crate) fn import_resets(&self, ids: &[Uuid], lines: &[Vec<u8>], patience: Patience) -> Result<()> {
        let time = |line: &Vec<u8>| {
            let time = json::fields(line, ["updatedAt"]).and_then(|[time]| time).and_then(json::text);
            time_of(time)
        };
        let times: Vec<SystemTime> = lines.iter().map(time).collect();
        let parameters: &[Parameter<'_>] =
            &[(&ids, Type::UUID_ARRAY), (&times, Type::TIMESTAMPTZ_ARRAY), (&lines, Type::BYTEA_ARRAY)];
        self.call("import_resets_1", parameters, patience)
    }

    /// All baselines.
    pub(crate) fn baselines(&self) -> Result<Baselines> {
        const SQL: &str = "SELECT * FROM @schema@.baselines WHERE key > $1 ORDER BY key LIMIT $2";
        let (mut last, mut baselines) = (Vec::new(), Baselines::new());
        loop {
            let rows = self.server.call(&UPGRADE, Patience::lasting(READING), |attempt| {
                let parameters: &[Parameter<'_>] = &[(&last, Type::BYTEA), (&READ_AT_ONCE, Type::INT8)];
                let rows = self.server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
                let read = |row: &Row| -> Result<(Vec<u8>, Text, Baseline), Failure> {
                    let key = baseline::key(&text(row, "task")?, &text(row, "phase")?);
                    Ok((value(row, "key")?, key, baseline_of(row)?))
                };
                rows.iter().map(read).collect::<Result<Vec<_>, _>>()
            })?;
            let Some((key, ..)) = rows.last() else { return Ok(baselines) };
            last.clone_from(key);
            baselines.extend(rows.into_iter().map(|(_, key, baseline)| (key, baseline)));
        }
    }

    /// Sets baselines to what they are elsewhere. Each key is `taskId:phase`; others are left out.
    pub(crate) fn import_baselines(&self, baselines: &Baselines, patience: Patience) -> Result<()> {
        let all: Vec<(Text, Text, &Baseline)> = baselines
            .iter()
            .filter_map(|(key, baseline)| baseline::parts(key).map(|(task, phase)| (task, phase, baseline)))
            .collect();
        for some in all.chunks(SENT_AT_ONCE) {
            let keys: Vec<[u8; 32]> =
                some.iter().map(|(task, phase, _)| self.key_id(task, phase).digest).collect();
            let keys: Vec<&[u8]> = keys.iter().map(|key| &key[..]).collect();
            let tasks: Vec<&[u8]> = some.iter().map(|(task, ..)| task.as_wtf8()).collect();
            let phases: Vec<&[u8]> = some.iter().map(|(_, phase, _)| phase.as_wtf8()).collect();
            let hashes: Vec<&[u8]> = some.iter().map(|(.., baseline)| baseline.hash.as_wtf8()).collect();
            let versions: Vec<i64> = some
                .iter()
                .map(|(.., baseline)| i64::try_from(baseline.version).unwrap_or(i64::MAX))
                .collect();
            let updated_ats: Vec<&[u8]> =
                some.iter().map(|(.., baseline)| baseline.updated_at.as_wtf8()).collect();
            let optional = |of: fn(&Baseline) -> &Option<Text>| -> Vec<Option<&[u8]>> {
                some.iter().map(|(.., baseline)| of(baseline).as_ref().map(Text::as_wtf8)).collect()
            };
            self.call(
                "import_baselines_1",
                &[
                    (&keys, Type::BYTEA_ARRAY),
                    (&tasks, Type::BYTEA_ARRAY),
                    (&phases, Type::BYTEA_ARRAY),
                    (&hashes, Type::BYTEA_ARRAY),
                    (&versions, Type::INT8_ARRAY),
                    (&updated_ats, Type::BYTEA_ARRAY),
                    (&optional(|baseline| &baseline.persona_hash), Type::BYTEA_ARRAY),
                    (&optional(|baseline| &baseline.updated_by), Type::BYTEA_ARRAY),
                    (&optional(|baseline| &baseline.reason), Type::BYTEA_ARRAY),
                    (&optional(|baseline| &baseline.version_tag), Type::BYTEA_ARRAY),
                ],
                patience,
            )?;
        }
        Ok(())
    }

    fn call(&self, function: &str, parameters: &[Parameter<'_>], patience: Patience) -> Result<()> {
        self.server.call(&UPGRADE, patience, |attempt| {
            self.server.function(attempt.session, function, parameters, attempt.deadline).map(drop)
        })
    }
}

fn baseline_of(row: &Row) -> Result<Baseline, Failure> {
    Ok(Baseline {
        hash: text(row, "hash")?,
        version: count(row, "version")?,
        updated_at: text(row, "updated_at")?,
        persona_hash: optional_text(row, "persona_hash")?,
        updated_by: optional_text(row, "updated_by")?,
        reason: optional_text(row, "reason")?,
        version_tag: optional_text(row, "version_tag")?,
    })
}

/// When something was made that says so; else now. Only for how long it is kept.
fn time_of(timestamp: Option<Text>) -> SystemTime {
    let ms = timestamp.and_then(|timestamp| parse_timestamp(timestamp.as_str()?));
    let ms = ms.and_then(|ms| u64::try_from(ms).ok());
    ms.map_or_else(SystemTime::now, |ms| UNIX_EPOCH + Duration::from_millis(ms))
}

//! Rows of records, and what they say.

use std::time::{Duration, Instant};

use postgres_types::Type;

use super::UPGRADE;
use crate::attestation::baseline::Baseline;
use crate::attestation::drift::{Drift, Severity, drift_details};
use crate::attestation::record::{Fields, is_of_task};
use crate::attestation::store::{Attestation, Prepared};
use crate::clock::iso_timestamp;
use crate::digest::short_digest;
use crate::error::{Error, Result};
use crate::patience::Patience;
use crate::postgres::rows::{count, optional_text, text, time_ms, value};
use crate::postgres::{Failure, Row, Server};
use crate::text::Text;

/// How many records are read at once.
pub(super) const READ_AT_ONCE: i64 = 1000;
/// How long reading them may take, whatever patience is left: it waits for nobody.
pub(super) const READING: Duration = Duration::from_secs(10);

/// The positions of keys, counted from 1, in the keys' order; of the same key in their own.
pub(super) fn in_order(keys: &[&[u8]]) -> Vec<i32> {
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by_key(|position| keys[*position]);
    order.into_iter().map(|position| i32::try_from(position + 1).unwrap_or(i32::MAX)).collect()
}

/// The answer for a prompt, from what it was compared with.
pub(super) fn compared(prompt: &Prepared, row: &Row) -> Result<Attestation, Failure> {
    let baseline = if value(row, "r_is_first")? {
        None
    } else {
        Some(Baseline {
            hash: text(row, "r_hash")?,
            version: count(row, "r_version")?,
            updated_at: Text::default(),
            persona_hash: optional_text(row, "r_persona_hash")?,
            updated_by: None,
            reason: None,
            version_tag: None,
        })
    };
    Ok(Attestation {
        current_hash: prompt.hash().clone(),
        drift: Drift::between(&prompt.spec, prompt.hash(), baseline.as_ref()),
        baseline_hash: baseline.map(|baseline| baseline.hash),
        error: None,
    })
}

/// The records of a task, oldest first.
pub(super) fn of_task(server: &Server, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>> {
    const SQL: &str =
        "SELECT * FROM @schema@.attestations WHERE task_key = $1 AND number > $2 ORDER BY number LIMIT $3";
    let Patience::Until(deadline) = patience else { return Err(Error::DatabaseLocked) };
    let key = short_digest(task.as_wtf8());
    let (mut last, mut records) = (0_i64, Vec::new());
    loop {
        let patience = Patience::Until(deadline.max(Instant::now() + READING));
        let next = server.call(&UPGRADE, patience, |attempt| {
            let parameters =
                &[(&key as _, Type::INT8), (&last as _, Type::INT8), (&READ_AT_ONCE as _, Type::INT8)];
            let rows = server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
            rows.iter()
                .map(|row| Ok((value(row, "number")?, line(row)?)))
                .collect::<Result<Vec<_>, Failure>>()
        })?;
        let Some((number, _)) = next.last() else { return Ok(records) };
        last = *number;
        records.extend(next.into_iter().map(|(_, line)| line).filter(|line| is_of_task(line, task)));
    }
}

/// A record as it would stand in a file.
pub(super) fn line(row: &Row) -> Result<Vec<u8>, Failure> {
    if let Some(line) = value::<Option<Vec<u8>>>(row, "line")? {
        return Ok(line);
    }
    let prompt_hash: &[u8] = value(row, "prompt_hash")?;
    let drifted_from = optional_text(row, "drifted_from")?;
    let details = match &drifted_from {
        Some(before) => Some(drift_details(before, &text(row, "prompt_hash")?)),
        None => None,
    };
    let baseline_hash = match &drifted_from {
        Some(before) => Some(before.as_wtf8()),
        None => (!value::<bool>(row, "is_first")?).then_some(prompt_hash),
    };
    let severity: Option<&[u8]> = value(row, "severity")?;
    let mut line = Vec::with_capacity(512);
    let fields = Fields {
        id: value(row, "id")?,
        task_id: value(row, "task")?,
        phase: value(row, "phase")?,
        prompt_hash,
        baseline_hash,
        drift_details: details.as_deref(),
        timestamp: &iso_timestamp(time_ms(row, "at")?),
        persona_hash: value(row, "persona_hash")?,
        persona_summary: value(row, "persona_summary")?,
        has_other_persona: value::<Option<&[u8]>>(row, "persona_before")?.is_some(),
        agent_type: value(row, "agent_type")?,
        model_version: value(row, "model_version")?,
        severity: severity.unwrap_or(Severity::None.as_str().as_bytes()),
        baseline_version: count(row, "baseline_version")?,
    };
    fields.write(&mut line);
    Ok(line)
}

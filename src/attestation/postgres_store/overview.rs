//! What operators ask: which prompts have drifted.

use std::time::{Duration, SystemTime};

use postgres_types::Type;
use uuid::Uuid;

use super::records::line;
use super::{PostgresAttestations, UPGRADE};
use crate::error::Result;
use crate::patience::Patience;
use crate::postgres::Failure;
use crate::postgres::rows::{count, only, value};

/// How many rows are read at once.
const READ_AT_ONCE: i64 = 1000;

/// What has drifted in some time.
#[derive(Debug)]
pub struct Drifts {
    /// How many attestations there were.
    pub attestations: u64,
    /// The records of those that found a drift of the prompt or the persona, by time; imported ones all.
    pub lines: Vec<Vec<u8>>,
}

impl PostgresAttestations {
    /// What has drifted since then. Each of the reads may take as long as `patience`.
    pub fn drifts_since(&self, since: SystemTime, patience: Duration) -> Result<Drifts> {
        const COUNT: &str = "SELECT count(*) AS r_count FROM @schema@.attestations WHERE at >= $1";
        const SQL: &str = "SELECT * FROM @schema@.attestations WHERE (at, id) > ($1, $2)
            AND (drifted_from IS NOT NULL OR persona_before IS NOT NULL OR line IS NOT NULL)
            ORDER BY at, id LIMIT $3";
        let server = &self.server;
        let attestations = server.call(&UPGRADE, Patience::lasting(patience), |attempt| {
            let parameters = &[(&since as _, Type::TIMESTAMPTZ)];
            count(only(&server.statement(attempt.session, COUNT, parameters, attempt.deadline)?)?, "r_count")
        })?;
        let (mut last, mut lines) = ((since, Uuid::nil()), Vec::new());
        loop {
            let next = server.call(&UPGRADE, Patience::lasting(patience), |attempt| {
                let parameters = &[
                    (&last.0 as _, Type::TIMESTAMPTZ),
                    (&last.1 as _, Type::UUID),
                    (&READ_AT_ONCE as _, Type::INT8),
                ];
                let rows = server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
                rows.iter()
                    .map(|row| Ok(((value(row, "at")?, value(row, "id")?), line(row)?)))
                    .collect::<Result<Vec<_>, Failure>>()
            })?;
            let Some((position, _)) = next.last() else { return Ok(Drifts { attestations, lines }) };
            last = *position;
            lines.extend(next.into_iter().map(|(_, line)| line));
        }
    }
}

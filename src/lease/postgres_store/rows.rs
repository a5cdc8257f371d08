//! What the server's rows say.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use crate::clock::iso_timestamp;
use crate::lease::model::{Lease, LeaseKey};
use crate::postgres::Failure;
use crate::text::Text;

/// A column's value.
pub(super) fn value<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, Failure> {
    row.try_get(column).map_err(|error| unexpected(&error.to_string()))
}

pub(super) fn text(row: &Row, column: &str) -> Result<Text, Failure> {
    Text::from_wtf8(value(row, column)?).ok_or_else(|| unexpected(&format!("{column} is no text")))
}

/// A wall time of the server, in milliseconds since the Unix epoch.
pub(super) fn time_ms(row: &Row, column: &str) -> Result<i64, Failure> {
    let time: SystemTime = value(row, column)?;
    Ok(match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    })
}

pub(super) fn count(row: &Row, column: &str) -> Result<u64, Failure> {
    value::<i64>(row, column).map(|count| u64::try_from(count).unwrap_or(0))
}

/// The lease in a row.
pub(super) fn lease(row: &Row, key: LeaseKey<'_>, lease_id: Uuid) -> Result<Lease, Failure> {
    Ok(Lease {
        lease_id: lease_id.to_string(),
        task_id: key.task.clone(),
        phase: key.phase.clone(),
        agent_id: text(row, "r_agent")?,
        acquired_at: iso_timestamp(time_ms(row, "r_acquired_at")?),
        expires_at: iso_timestamp(time_ms(row, "r_expires_at")?),
        renewed_count: count(row, "r_renewed_count")?,
        fencing_token: value(row, "r_token")?,
    })
}

/// The only row of an answer.
pub(super) fn only(rows: &[Row]) -> Result<&Row, Failure> {
    rows.first().ok_or_else(|| unexpected("no row"))
}

pub(super) fn unexpected(what: &str) -> Failure {
    Failure::Refused(format!(
        "the server's answer is not understood: {what}; another program may have changed the schema"
    ))
}

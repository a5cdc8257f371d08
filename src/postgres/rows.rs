//! What the server's rows say.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::postgres::Row;
use postgres_types::FromSql;

use super::Failure;
use crate::text::Text;

/// A column's value.
pub(crate) fn value<'r, T: FromSql<'r>>(row: &'r Row, column: &str) -> Result<T, Failure> {
    row.try_get(column).map_err(|error| unexpected(&error))
}

pub(crate) fn text(row: &Row, column: &str) -> Result<Text, Failure> {
    Text::from_wtf8(value(row, column)?).ok_or_else(|| unexpected(&format!("{column} is no text")))
}

pub(crate) fn optional_text(row: &Row, column: &str) -> Result<Option<Text>, Failure> {
    let wtf8: Option<Vec<u8>> = value(row, column)?;
    wtf8.map(|wtf8| Text::from_wtf8(wtf8).ok_or_else(|| unexpected(&format!("{column} is no text"))))
        .transpose()
}

/// A wall time of the server, in milliseconds since the Unix epoch.
pub(crate) fn time_ms(row: &Row, column: &str) -> Result<i64, Failure> {
    let time: SystemTime = value(row, column)?;
    Ok(match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    })
}

pub(crate) fn count(row: &Row, column: &str) -> Result<u64, Failure> {
    value::<i64>(row, column).map(|count| u64::try_from(count).unwrap_or(0))
}

/// The only row of an answer.
pub(crate) fn only(rows: &[Row]) -> Result<&Row, Failure> {
    rows.first().ok_or_else(|| unexpected("no row"))
}

pub(crate) fn unexpected(what: &str) -> Failure {
    Failure::Refused(format!(
        "the server's answer is not understood: {what}; another program may have changed the schema"
    ))
}

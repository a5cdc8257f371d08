//! JavaScript strings in the database.
//!
//! A string that is valid Unicode is bound as TEXT, so that other programs find it. One with a lone surrogate has no
//! UTF-8 form and is bound as a BLOB of its WTF-8: the two never compare equal, so each string has one form only.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, Value, ValueRef};

use crate::text::Text;

/// A string as a statement's parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a>(pub(super) &'a Text);

impl ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0.as_str() {
            Some(text) => ValueRef::Text(text.as_bytes()),
            None => ValueRef::Blob(self.0.as_wtf8()),
        }))
    }
}

/// Whether the column has this string.
pub(super) fn is_text(value: ValueRef<'_>, text: &Text) -> bool {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes == text.as_wtf8(),
        _ => false,
    }
}

/// The string in the column; what is no string, for a message.
pub(super) fn text(value: ValueRef<'_>) -> Text {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Text::from_wtf8(bytes.to_vec())
            .unwrap_or_else(|| Text::from(String::from_utf8_lossy(bytes).into_owned())),
        ValueRef::Null => Text::default(),
        ValueRef::Integer(number) => Text::from(number.to_string()),
        ValueRef::Real(number) => Text::from(number.to_string()),
    }
}

/// What is in a column, to be looked for again: exactly that, text of other programs that is no UTF-8 included.
#[derive(Debug)]
pub(super) enum Exact {
    Text(Vec<u8>),
    Other(Value),
}

impl FromSql for Exact {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        Ok(match value {
            ValueRef::Text(bytes) => Self::Text(bytes.to_vec()),
            other => Self::Other(Value::column_result(other)?),
        })
    }
}

impl ToSql for Exact {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self {
            Self::Text(bytes) => Ok(ToSqlOutput::Borrowed(ValueRef::Text(bytes))),
            Self::Other(value) => value.to_sql(),
        }
    }
}

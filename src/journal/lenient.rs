//! Reading lines that others may have written.

use serde::Deserialize;

/// Reads a value of the wanted type, or null, which is none; anything else is an error.
///
/// A string read directly as bytes, as [`Text`](crate::text::Text) is, may hold raw control characters, which JSON
/// forbids. Taken as a raw value first, it may not.
pub(crate) fn strict<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
    serde_json::from_str(raw.get()).map_err(serde::de::Error::custom)
}

/// Reads a value of the wanted type; null, or a value of another type, is none.
pub(crate) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let raw = <&serde_json::value::RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

//! JavaScript strings and how `JSON.stringify` writes them.
//!
//! A JavaScript string is a sequence of UTF-16 units in which half of a surrogate pair may stand alone. Callers cut
//! texts at a number of units, so such halves are real input: turning them into U+FFFD would make two different
//! prompts hash alike. [`Text`] keeps every string exactly, as WTF-8 (<https://simonsapin.github.io/wtf-8/>): UTF-8
//! in which a lone surrogate is written as the three bytes that its code point would have.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};

/// A JavaScript string, kept exactly.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Box<[u8]>);

impl Text {
    /// The string with these UTF-16 units.
    #[must_use]
    pub fn from_utf16(units: &[u16]) -> Self {
        // What nearly all strings are, and what the compiler makes vector instructions of.
        if units.iter().all(|unit| *unit < 0x80) {
            return Self(units.iter().map(|unit| unit.to_le_bytes()[0]).collect());
        }
        let mut bytes = Vec::with_capacity(units.len());
        for unit in char::decode_utf16(units.iter().copied()) {
            match unit {
                Ok(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                Err(lone) => bytes.extend_from_slice(&encode_surrogate(lone.unpaired_surrogate())),
            }
        }
        Self(bytes.into())
    }

    /// The string whose WTF-8 form is `bytes`, or `None` if they are not WTF-8.
    #[must_use]
    pub fn from_wtf8(bytes: Vec<u8>) -> Option<Self> {
        let mut rest = bytes.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            rest = &rest[error.valid_up_to()..];
            surrogate_at(rest)?;
            rest = &rest[3..];
        }
        Some(Self(bytes.into()))
    }

    /// The string as UTF-8, or `None` if it holds a lone surrogate.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The string as WTF-8.
    #[must_use]
    pub fn as_wtf8(&self) -> &[u8] {
        &self.0
    }

    /// The string as WTF-8.
    #[must_use]
    pub fn into_wtf8(self) -> Vec<u8> {
        self.0.into()
    }

    /// The string for a message to a person: lone surrogates become U+FFFD.
    #[must_use]
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        match self.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(String::from_utf16_lossy(&self.to_utf16())),
        }
    }

    /// The UTF-16 units of the string.
    #[must_use]
    pub fn to_utf16(&self) -> Vec<u16> {
        self.utf16_units().collect()
    }

    /// Whether the string has no units.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares as `Array.prototype.sort` does: by UTF-16 unit, which is not the order of code points.
    #[must_use]
    pub fn cmp_utf16(&self, other: &Self) -> Ordering {
        let same = self.0.iter().zip(&other.0).take_while(|(a, b)| a == b).count();
        match (self.0.get(same), other.0.get(same)) {
            // Up to U+CFFF both orders agree.
            (Some(a), Some(b)) if *a < 0xED && *b < 0xED => a.cmp(b),
            (None, _) | (_, None) => self.0.len().cmp(&other.0.len()),
            _ => self.utf16_units().cmp(other.utf16_units()),
        }
    }

    /// Appends the string as `JSON.stringify` writes it, quotes included.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        write_json(&self.0, out);
    }

    fn utf16_units(&self) -> impl Iterator<Item = u16> + '_ {
        let mut rest: &[u8] = &self.0;
        let mut pending: Option<u16> = None;
        std::iter::from_fn(move || {
            if let Some(low) = pending.take() {
                return Some(low);
            }
            if let Some(surrogate) = surrogate_at(rest) {
                rest = &rest[3..];
                return Some(surrogate);
            }
            let c = leading_char(rest)?;
            rest = &rest[c.len_utf8()..];
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            pending = units.get(1).copied();
            Some(units[0])
        })
    }
}

fn encode_surrogate(unit: u16) -> [u8; 3] {
    let [high, low] = unit.to_be_bytes();
    [0xED, 0x80 | ((high & 0x0F) << 2) | (low >> 6), 0x80 | (low & 0x3F)]
}

fn surrogate_at(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [0xED, b @ 0xA0..=0xBF, c @ 0x80..=0xBF, ..] => {
            Some(0xD000 | (u16::from(b & 0x3F) << 6) | u16::from(c & 0x3F))
        }
        _ => None,
    }
}

fn leading_char(bytes: &[u8]) -> Option<char> {
    let head = &bytes[..bytes.len().min(4)];
    match std::str::from_utf8(head) {
        Ok(text) => text.chars().next(),
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).ok()?.chars().next(),
    }
}

/// Appends a string, given as WTF-8, as `JSON.stringify` writes it.
pub(crate) fn write_json(wtf8: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain_from = 0;
    let mut at = 0;
    while at < wtf8.len() {
        let byte = wtf8[at];
        let (escape, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            0x08 => (b"\\b", 1),
            b'\t' => (b"\\t", 1),
            b'\n' => (b"\\n", 1),
            0x0C => (b"\\f", 1),
            b'\r' => (b"\\r", 1),
            0x00..=0x1F => (&[], 1),
            0xED if surrogate_at(&wtf8[at..]).is_some() => (&[], 3),
            _ => {
                at += 1;
                continue;
            }
        };
        out.extend_from_slice(&wtf8[plain_from..at]);
        if escape.is_empty() {
            let unit = surrogate_at(&wtf8[at..]).unwrap_or(u16::from(byte));
            out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        at += length;
        plain_from = at;
    }
    out.extend_from_slice(&wtf8[plain_from..]);
    out.push(b'"');
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into_bytes().into())
    }
}

/// Compares as the WTF-8 does.
impl Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut json = Vec::new();
        self.write_json(&mut json);
        f.write_str(&String::from_utf8_lossy(&json))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text::from(text))
            }

            fn visit_bytes<E: serde::de::Error>(self, wtf8: &[u8]) -> Result<Text, E> {
                Text::from_wtf8(wtf8.to_vec()).ok_or_else(|| E::custom("a string that is not valid UTF-8"))
            }
        }

        // serde_json gives strings with lone surrogates, as WTF-8, only to those who ask for bytes.
        deserializer.deserialize_bytes(TextVisitor).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(units: &[u16]) -> String {
        let mut out = Vec::new();
        Text::from_utf16(units).write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn plain_text_is_quoted() {
        assert_eq!(json(&utf16("a/b é 😀 \u{2028}\u{7f}")), "\"a/b é 😀 \u{2028}\u{7f}\"");
    }

    #[test]
    fn control_characters_are_escaped_in_lower_case() {
        assert_eq!(json(&utf16("\"\\\u{8}\t\n\u{c}\r\u{1f}\0")), r#""\"\\\b\t\n\f\r\u001f\u0000""#);
    }

    #[test]
    fn lone_surrogates_are_escaped_and_pairs_are_not() {
        assert_eq!(json(&[0xD83D]), r#""\ud83d""#);
        assert_eq!(json(&[0xDC00, 0xD83D, 0xDE00]), "\"\\udc00😀\"");
        assert_eq!(json(&[0xD7FF, 0xE000]), "\"\u{D7FF}\u{E000}\"");
    }

    #[test]
    fn invalid_bytes_are_refused() {
        assert!(Text::from_wtf8(vec![b'a', 0xFF]).is_none());
        assert!(Text::from_wtf8(vec![0xED, 0xA0]).is_none());
    }

    proptest! {
        #[test]
        fn units_survive(units in proptest::collection::vec(any::<u16>(), 0..40)) {
            prop_assert_eq!(Text::from_utf16(&units).to_utf16(), units);
        }

        #[test]
        fn json_is_read_back(units in proptest::collection::vec(any::<u16>(), 0..40)) {
            let text: Text = serde_json::from_str(&json(&units)).unwrap();
            prop_assert_eq!(text.to_utf16(), units);
        }

        #[test]
        fn order_is_that_of_utf16_units(
            a in proptest::collection::vec(0xD700_u16..0xE100, 0..6),
            b in proptest::collection::vec(0xD700_u16..0xE100, 0..6),
        ) {
            prop_assert_eq!(Text::from_utf16(&a).cmp_utf16(&Text::from_utf16(&b)), a.cmp(&b));
        }
    }
}

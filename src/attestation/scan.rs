//! Finds the entries of a JSON object in a file's bytes, without parsing their values.

use std::ops::Range;

use memchr::memchr2;

use crate::text::Text;

/// An entry's place: its key with quotes, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, quotes included.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// Where the object's entries end and where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The offset after the last entry, or after the opening brace if there is none.
    pub entries_end: usize,
    /// The offset of the closing brace.
    pub closing_brace: usize,
}

/// The bytes are not one JSON object; everything before `at` could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where reading stopped.
    pub at: usize,
}

/// Calls `found` for each entry of the object that `bytes` hold.
///
/// Structure and strings are checked; numbers and literals only for the characters that they may have. What a value
/// means is checked when it is used.
pub fn object(bytes: &[u8], mut found: impl FnMut(Entry)) -> Result<Extent, Damage> {
    let mut at = skip_blank(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return Err(Damage { at });
    }
    at += 1;
    let mut entries_end = at;
    at = skip_blank(bytes, at);
    if bytes.get(at) != Some(&b'}') {
        loop {
            let entry = entry_at(bytes, at)?;
            entries_end = entry.value.end;
            at = skip_blank(bytes, entries_end);
            found(entry);
            match bytes.get(at) {
                Some(b',') => at = skip_blank(bytes, at + 1),
                Some(b'}') => break,
                _ => return Err(Damage { at }),
            }
        }
    }
    let rest = skip_blank(bytes, at + 1);
    if rest == bytes.len() { Ok(Extent { entries_end, closing_brace: at }) } else { Err(Damage { at: rest }) }
}

/// Calls `found` for each entry of a list that goes on after other entries: each with a comma before it, except that
/// the first may lack it.
pub fn further_entries(bytes: &[u8], mut found: impl FnMut(Entry)) -> Result<(), Damage> {
    let mut at = skip_blank(bytes, 0);
    while at < bytes.len() {
        if bytes[at] == b',' {
            at = skip_blank(bytes, at + 1);
        }
        let entry = entry_at(bytes, at)?;
        at = skip_blank(bytes, entry.value.end);
        found(entry);
    }
    Ok(())
}

/// The entry that starts at `at` with its key's opening quote.
pub fn entry_at(bytes: &[u8], at: usize) -> Result<Entry, Damage> {
    let key = at..skip_string(bytes, at)?;
    let colon = skip_blank(bytes, key.end);
    if bytes.get(colon) != Some(&b':') {
        return Err(Damage { at: colon });
    }
    let start = skip_blank(bytes, colon + 1);
    Ok(Entry { key, value: start..skip_value(bytes, start)? })
}

/// Decodes a key, given with its quotes.
#[must_use]
pub fn decode_key(quoted: &[u8]) -> Option<Text> {
    serde_json::from_slice(quoted).ok()
}

fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

fn skip_string(bytes: &[u8], start: usize) -> Result<usize, Damage> {
    if bytes.get(start) != Some(&b'"') {
        return Err(Damage { at: start });
    }
    let mut at = start + 1;
    loop {
        let length = memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]).ok_or(Damage { at: bytes.len() })?;
        if let Some(control) = bytes[at..at + length].iter().position(|byte| *byte < 0x20) {
            return Err(Damage { at: at + control });
        }
        at += length;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
}

fn skip_value(bytes: &[u8], start: usize) -> Result<usize, Damage> {
    let mut closers = Vec::new();
    let mut at = start;
    loop {
        match bytes.get(at) {
            Some(b'"') => at = skip_string(bytes, at)?,
            Some(b'{') => {
                closers.push(b'}');
                at += 1;
            }
            Some(b'[') => {
                closers.push(b']');
                at += 1;
            }
            Some(closer @ (b'}' | b']')) if closers.last() == Some(closer) => {
                closers.pop();
                at += 1;
            }
            Some(b':' | b',' | b' ' | b'\n' | b'\t' | b'\r') if !closers.is_empty() => {
                at += 1;
                continue;
            }
            Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.') => {
                while matches!(bytes.get(at), Some(b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.')) {
                    at += 1;
                }
            }
            _ => return Err(Damage { at }),
        }
        if closers.is_empty() {
            return Ok(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str) -> Result<(Vec<(String, String)>, Extent), Damage> {
        let mut seen = Vec::new();
        let extent = object(json.as_bytes(), |entry| {
            seen.push((json[entry.key].to_owned(), json[entry.value].to_owned()));
        })?;
        Ok((seen, extent))
    }

    #[test]
    fn entries_are_found_whatever_the_layout() {
        let json = "\n{ \"a:B\" : {\"hash\":\"}\\\"\",\"n\":[1,{}]} ,\n\t\"c\":\"d\", \"e\": -1.5E+3 \n } ";
        let (seen, extent) = entries(json).unwrap();
        let seen: Vec<(&str, &str)> = seen.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            seen,
            [("\"a:B\"", "{\"hash\":\"}\\\"\",\"n\":[1,{}]}"), ("\"c\"", "\"d\""), ("\"e\"", "-1.5E+3")]
        );
        assert_eq!(&json[extent.closing_brace..=extent.closing_brace], "}");
        assert!(json[..extent.entries_end].ends_with("E+3"));
    }

    #[test]
    fn an_empty_object_has_none() {
        assert_eq!(entries("{}").unwrap(), (Vec::new(), Extent { entries_end: 1, closing_brace: 1 }));
        assert_eq!(entries(" { } \n").unwrap().1, Extent { entries_end: 2, closing_brace: 3 });
    }

    #[test]
    fn anything_else_is_damage() {
        for json in [
            "",
            "[]",
            "null",
            "{",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":1",
            "{\"a\":1,}",
            "{\"a\":{\"b\":1]}",
            "{\"a\":\"\0\"}",
            "{\"a\":1}x",
            "{\"a\":1 \"b\":2}",
            "{,}",
            "{\"a\":,}",
            "{\"a\":\"\\",
        ] {
            assert!(entries(json).is_err(), "{json}");
        }
    }

    #[test]
    fn further_entries_follow_commas() {
        let bytes = b",\"a\":1,\n\"b\":\"2\"  ";
        let mut keys = Vec::new();
        further_entries(bytes, |entry| keys.push(bytes[entry.key].to_vec())).unwrap();
        assert_eq!(keys, [b"\"a\"".to_vec(), b"\"b\"".to_vec()]);
        assert!(further_entries(b",\"a\":", |_| ()).is_err());
    }
}

//! Finds what is where in a JSON text, without building values.
//!
//! The texts are journals and the baselines file, where a call wants a few fields of many lines, or one entry of a
//! large object. The grammar is that of RFC 8259 and is checked in full, except that the bytes must be known to be
//! UTF-8 by the caller.

use std::borrow::Cow;
use std::ops::Range;

use crate::text::Text;

/// An entry's place: its key with quotes, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, quotes included.
    pub key: Range<usize>,
    /// The value.
    pub value: Range<usize>,
}

/// Where an object's entries end and where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The offset after the last entry, or after the opening brace if there is none.
    pub entries_end: usize,
    /// The offset of the closing brace.
    pub closing_brace: usize,
}

/// The bytes are not what they should be; everything before `at` could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Where reading stopped.
    pub at: usize,
}

/// Calls `found` for each entry of the object that `bytes` hold, and nothing but it.
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
    let start = skip_colon(bytes, key.end)?;
    Ok(Entry { key, value: start..skip_value(bytes, start)? })
}

/// The values of the named fields of the object that a line holds; `None` if the line is no JSON object. Of fields
/// with one name the last counts, as for `JSON.parse`.
#[must_use]
#[inline]
pub fn fields<'a, const N: usize>(line: &'a [u8], names: [&str; N]) -> Option<[Option<&'a [u8]>; N]> {
    std::str::from_utf8(line).ok()?;
    let mut values = [None; N];
    // Lines of one kind have their fields in one order, so the next name is tried first.
    let mut next = 0;
    object(line, |entry| {
        let key = &line[entry.key.start + 1..entry.key.end - 1];
        let position = if names.get(next).is_some_and(|name| name.as_bytes() == key) {
            Some(next)
        } else if key.contains(&b'\\') {
            let key = text(&line[entry.key]);
            key.and_then(|key| names.iter().position(|name| key.as_str() == Some(name)))
        } else {
            names.iter().position(|name| name.as_bytes() == key)
        };
        if let Some(position) = position {
            values[position] = Some(&line[entry.value]);
            next = position + 1;
        }
    })
    .ok()?;
    Some(values)
}

/// Whether the bytes are one JSON value.
#[must_use]
pub fn is_value(bytes: &[u8]) -> bool {
    let start = skip_blank(bytes, 0);
    std::str::from_utf8(bytes).is_ok()
        && skip_value(bytes, start).is_ok_and(|end| skip_blank(bytes, end) == bytes.len())
}

/// The string that a value is, as WTF-8; `None` if it is no string.
#[must_use]
#[inline]
pub fn string(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let content = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if !content.contains(&b'\\') {
        return Some(Cow::Borrowed(content));
    }
    let text: Text = serde_json::from_slice(value).ok()?;
    Some(Cow::Owned(text.into_wtf8()))
}

/// The string that a value is; `None` if it is no string.
#[must_use]
pub fn text(value: &[u8]) -> Option<Text> {
    string(value).and_then(|wtf8| Text::from_wtf8(wtf8.into_owned()))
}

/// The elements of the list that a value is; `None` if it is no list.
#[must_use]
pub fn elements(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    let mut at = skip_blank(value, value.first().filter(|byte| **byte == b'[').map(|_| 1)?);
    while value.get(at) != Some(&b']') {
        let end = skip_value(value, at).ok()?;
        elements.push(&value[at..end]);
        at = skip_blank(value, end);
        if value.get(at) == Some(&b',') {
            at = skip_blank(value, at + 1);
        }
    }
    Some(elements)
}

#[inline]
fn skip_blank(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\n' | b'\t' | b'\r')) {
        at += 1;
    }
    at
}

#[inline]
fn skip_colon(bytes: &[u8], key_end: usize) -> Result<usize, Damage> {
    let at = skip_blank(bytes, key_end);
    if bytes.get(at) == Some(&b':') { Ok(skip_blank(bytes, at + 1)) } else { Err(Damage { at }) }
}

/// Characters that stand for themselves in a string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 0x20 {
        plain[byte] = false;
        byte += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

/// How many of the first bytes stand for themselves in a string. Looks at eight at a time: a difference by which a byte
/// falls below zero leaves its highest bit set, that of the lowest such byte without fail (Sean Anderson, Bit Twiddling
/// Hacks, "Determine if a word has a byte less than n").
#[inline]
fn plain_length(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word & (EACH << 7);
    let (words, rest) = bytes.as_chunks::<8>();
    for (position, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = below(word, 0x20)
            | below(word ^ (EACH * u64::from(b'"')), 1)
            | below(word ^ (EACH * u64::from(b'\\')), 1);
        if special != 0 {
            return 8 * position + special.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]);
    bytes.len() - rest.len() + special.unwrap_or(rest.len())
}

#[inline]
fn skip_string(bytes: &[u8], start: usize) -> Result<usize, Damage> {
    if bytes.get(start) != Some(&b'"') {
        return Err(Damage { at: start });
    }
    let mut at = start + 1;
    loop {
        at += plain_length(bytes.get(at..).unwrap_or_default());
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (Some(b'\\'), Some(b'u'))
                if bytes.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) =>
            {
                at += 6;
            }
            _ => return Err(Damage { at }),
        }
    }
}

/// Skips a value; containers are kept on a list and not on the stack, which a hostile depth could exhaust.
#[inline]
fn skip_value(bytes: &[u8], start: usize) -> Result<usize, Damage> {
    // The innermost one is kept by itself: most values are scalars or hold some, and need no list.
    let (mut outer, mut innermost) = (Vec::new(), None);
    let mut at = start;
    loop {
        match bytes.get(at) {
            Some(bracket @ (b'{' | b'[')) => {
                outer.extend(innermost.replace(*bracket));
                at = skip_blank(bytes, at + 1);
                if bytes.get(at) != Some(&closing(*bracket)) {
                    if *bracket == b'{' {
                        at = skip_colon(bytes, skip_string(bytes, at)?)?;
                    }
                    continue;
                }
            }
            _ => at = skip_scalar(bytes, at)?,
        }
        // A value has ended, and with it any number of containers.
        loop {
            let Some(bracket) = innermost else { return Ok(at) };
            at = skip_blank(bytes, at);
            match bytes.get(at) {
                Some(byte) if *byte == closing(bracket) => {
                    innermost = outer.pop();
                    at += 1;
                }
                Some(b',') => {
                    at = skip_blank(bytes, at + 1);
                    if bracket == b'{' {
                        at = skip_colon(bytes, skip_string(bytes, at)?)?;
                    }
                    break;
                }
                _ => return Err(Damage { at }),
            }
        }
    }
}

#[inline]
fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

#[inline]
fn skip_scalar(bytes: &[u8], at: usize) -> Result<usize, Damage> {
    let literal = |word: &[u8]| {
        if bytes[at..].starts_with(word) { Ok(at + word.len()) } else { Err(Damage { at }) }
    };
    match bytes.get(at) {
        Some(b'"') => skip_string(bytes, at),
        Some(b't') => literal(b"true"),
        Some(b'f') => literal(b"false"),
        Some(b'n') => literal(b"null"),
        Some(b'-' | b'0'..=b'9') => skip_number(bytes, at),
        _ => Err(Damage { at }),
    }
}

#[inline]
fn skip_number(bytes: &[u8], start: usize) -> Result<usize, Damage> {
    let digits = |at: usize| {
        let count = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count > 0 { Ok(at + count) } else { Err(Damage { at }) }
    };
    let mut at = start + usize::from(bytes[start] == b'-');
    at = if bytes.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        at += 1;
        at = digits(at + usize::from(matches!(bytes.get(at), Some(b'+' | b'-'))))?;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        for json in
            ["", "[]", "null", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{\"a\":1}x", "{,}"]
        {
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

    #[test]
    fn named_fields_are_found_in_any_order_and_the_last_of_a_name_counts() {
        let line = br#"{"b":1,"x":[],"a":"\u0041","b":2,"\u0063":null}"#;
        let [a, b, c, d] = fields(line, ["a", "b", "c", "d"]).unwrap();
        assert_eq!(
            (a.and_then(text), b, c, d),
            (Some("A".into()), Some(&b"2"[..]), Some(&b"null"[..]), None)
        );
        assert_eq!(fields(b"[]", ["a"]), None);
        assert_eq!(fields(b"{\"a\":\"\xFF\"}", ["a"]), None);
    }

    #[test]
    fn elements_of_a_list() {
        assert_eq!(elements(b"[ 1 , [2] ,\"a\"]").unwrap(), [&b"1"[..], b"[2]", b"\"a\""]);
        assert_eq!(elements(b"[]").unwrap(), Vec::<&[u8]>::new());
        assert_eq!(elements(b"{}"), None);
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert!(is_value(deep.as_bytes()));
        assert!(!is_value(&deep.as_bytes()[1..]));
    }

    fn almost_json() -> impl Strategy<Value = Vec<u8>> {
        let pieces = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"\\n\"", "\\", "\\u12", "\\ud83d", "1", "-", "0",
            ".5", "e", "+", "true", "null", "tru", " ", "\n", "\u{1}", "é",
        ]);
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_json_is_what_serde_says(bytes in almost_json()) {
            let expected = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
            prop_assert_eq!(is_value(&bytes), expected, "{}", String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn eight_at_a_time_find_what_one_by_one_does(
            bytes in prop::collection::vec(prop_oneof![8 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\')], 0..40),
            plain in 0_usize..40,
        ) {
            let bytes = ["\u{e9}a ~\u{7f}".repeat(plain).into_bytes(), bytes].concat();
            let expected = bytes.iter().position(|byte| !PLAIN[usize::from(*byte)]);
            prop_assert_eq!(plain_length(&bytes), expected.unwrap_or(bytes.len()));
        }
    }
}

//! What requests and replies look like. Numbers are little-endian; texts and values have their length before them. Values
//! are in PostgreSQL's binary format.

use std::ops::Range;

use crate::client::Problem;

/// Instead of a value's length: there is none.
const NULL: u32 = u32::MAX;

/// A request or reply that is being written.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn number(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        // PostgreSQL itself has no values of 4 GB, nor statements.
        self.number(u32::try_from(bytes.len()).unwrap_or(NULL - 1));
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn value(&mut self, value: Option<&[u8]>) {
        match value {
            Some(bytes) => self.bytes(bytes),
            None => self.number(NULL),
        }
    }

    #[cfg(any(test, feature = "driver"))]
    pub(crate) fn problem(mut self, problem: &Problem) -> Vec<u8> {
        match problem {
            Problem::Server { state, message, hint } => {
                self.number(0);
                self.bytes(state.as_bytes());
                self.bytes(message.as_bytes());
                self.value(hint.as_deref().map(str::as_bytes));
            }
            Problem::Connection(text) => {
                self.number(1);
                self.bytes(text.as_bytes());
            }
            Problem::Unusable(text) => {
                self.number(2);
                self.bytes(text.as_bytes());
            }
        }
        self.0
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads a request or reply; `None` where it ends too early.
pub(crate) struct Reader<'a> {
    message: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { message, position: 0 }
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        let bytes = self.message.get(self.position..self.position + 4)?;
        self.position += 4;
        bytes.try_into().ok().map(u32::from_le_bytes)
    }

    /// Where a value is; the inner `None` is the absence of one.
    #[allow(clippy::option_option, reason = "one for the message, one for the value")]
    pub(crate) fn place(&mut self) -> Option<Option<Range<usize>>> {
        let length = self.number()?;
        if length == NULL {
            return Some(None);
        }
        let start = self.position;
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        if end > self.message.len() {
            return None;
        }
        self.position = end;
        Some(Some(start..end))
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let place = self.place()??;
        self.message.get(place)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) fn problem(&mut self) -> Option<Problem> {
        Some(match self.number()? {
            0 => {
                let (state, message) = (self.text()?, self.text()?);
                let hint = self.place()?.and_then(|place| self.message.get(place));
                let hint = hint.map(|hint| String::from_utf8_lossy(hint).into_owned());
                Problem::Server { state, message, hint }
            }
            1 => Problem::Connection(self.text()?),
            _ => Problem::Unusable(self.text()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.number(7);
        writer.bytes(b"text");
        writer.value(None);
        writer.value(Some(b""));
        let message = writer.finish();
        let mut reader = Reader::new(&message);
        assert_eq!(reader.number(), Some(7));
        assert_eq!(reader.bytes(), Some(&b"text"[..]));
        assert_eq!(reader.place(), Some(None));
        assert_eq!(reader.place(), Some(Some(message.len()..message.len())));
        assert_eq!(reader.number(), None);
    }

    #[test]
    fn a_problem_arrives_as_it_was() {
        for problem in [
            Problem::Server { state: "53100".to_owned(), message: "disk full".to_owned(), hint: None },
            Problem::Server {
                state: "53300".to_owned(),
                message: String::new(),
                hint: Some("wait".to_owned()),
            },
            Problem::Connection("closed".to_owned()),
            Problem::Unusable("no certificates".to_owned()),
        ] {
            let message = Writer::default().problem(&problem);
            assert_eq!(Reader::new(&message).problem(), Some(problem));
        }
    }

    #[test]
    fn a_message_that_ends_too_early_is_noticed() {
        let mut writer = Writer::default();
        writer.bytes(b"12345678");
        let message = writer.finish();
        for end in 0..message.len() {
            assert_eq!(Reader::new(&message[..end]).bytes(), None);
        }
    }
}

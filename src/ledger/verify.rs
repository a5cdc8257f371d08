//! The check of a whole ledger.

use std::fs::File;
use std::io;

use super::entry::{GENESIS, StoredEntry};
use crate::files::read_exact_at;
use crate::journal::reader::for_each_line;
use crate::text::Text;

/// What the check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// The number of entries; 0 if a line is not JSON.
    pub entries_checked: u64,
    /// The first entry, counted from 0, that does not follow the one before it.
    pub broken_chain_at: Option<u64>,
    /// The ids of entries whose content is not what their hashes say.
    pub tampered_entries: Vec<Text>,
    /// The first line, counted from 1, that is not JSON.
    pub unreadable_line: Option<u64>,
}

impl Verification {
    /// Whether the ledger is whole.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.broken_chain_at.is_none() && self.tampered_entries.is_empty() && self.unreadable_line.is_none()
    }
}

/// Checks the entries in the first `size` bytes of a ledger.
pub fn verify(file: &File, size: u64) -> io::Result<Verification> {
    let mut check = Check::new();
    let end = for_each_line(file, 0, size, |_, line| check.add(line))?;
    let mut last = vec![0; usize::try_from(size - end).unwrap_or(usize::MAX)];
    read_exact_at(file, &mut last, end)?;
    check.add(&last);
    Ok(check.finish())
}

/// A check that is given the lines one after the other.
pub(super) struct Check {
    found: Verification,
    line: u64,
    /// The `previous_hash` that the next entry must have.
    expected: Vec<u8>,
}

impl Check {
    pub(super) fn new() -> Self {
        Self { found: Verification::default(), line: 0, expected: GENESIS.as_bytes().to_vec() }
    }

    pub(super) fn finish(self) -> Verification {
        match self.found.unreadable_line {
            None => self.found,
            line => Verification { unreadable_line: line, ..Verification::default() },
        }
    }

    pub(super) fn add(&mut self, line: &[u8]) {
        self.line += 1;
        if line.trim_ascii().is_empty() || self.found.unreadable_line.is_some() {
            return;
        }
        let Some(entry) = StoredEntry::from_line(line) else {
            self.found.unreadable_line = Some(self.line);
            return;
        };
        let position = self.found.entries_checked;
        self.found.entries_checked += 1;
        if self.found.broken_chain_at.is_some() {
            return;
        }
        if entry.previous_hash().as_deref() != Some(&*self.expected) {
            self.found.broken_chain_at = Some(position);
            return;
        }
        if !entry.is_authentic() {
            let id = entry.id().unwrap_or_else(|| format!("entry {position}").into());
            self.found.tampered_entries.push(id);
        }
        self.expected.clear();
        self.expected.extend_from_slice(&entry.entry_hash().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::entry::{Transition, write_entry};
    use super::*;

    fn ledger(entries: usize) -> Vec<String> {
        let mut previous = GENESIS.to_owned();
        (0..entries)
            .map(|number| {
                let transition = Transition { task_id: format!("T{number}").into(), ..Transition::default() };
                let mut line = Vec::new();
                previous = write_entry(&mut line, &transition, &format!("id-{number}"), "t", &previous);
                String::from_utf8(line).unwrap()
            })
            .collect()
    }

    fn check(content: &str) -> Verification {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        verify(&file, content.len() as u64).unwrap()
    }

    #[test]
    fn a_whole_ledger_is_valid() {
        let found = check(&ledger(5).concat());
        assert!(found.is_valid());
        assert_eq!(found.entries_checked, 5);
        assert!(check("").is_valid());
        assert!(check(ledger(2).concat().trim_end()).is_valid());
    }

    #[test]
    fn an_entry_taken_out_breaks_the_chain() {
        let mut lines = ledger(5);
        lines.remove(2);
        let found = check(&lines.concat());
        assert_eq!((found.is_valid(), found.broken_chain_at, found.entries_checked), (false, Some(2), 4));
    }

    #[test]
    fn changed_entries_are_named() {
        let lines = ledger(5).concat().replace("\"T1\"", "\"X\"").replace("\"T3\"", "\"X\"");
        let found = check(&lines);
        assert_eq!(found.tampered_entries, [Text::from("id-1"), Text::from("id-3")]);
        assert_eq!((found.is_valid(), found.broken_chain_at), (false, None));
    }

    #[test]
    fn a_line_that_is_not_json_ends_the_check() {
        let found = check(&format!("{}garbage\n", ledger(2).concat()));
        assert_eq!((found.is_valid(), found.entries_checked, found.unreadable_line), (false, 0, Some(3)));
    }

    #[test]
    fn json_that_is_no_entry_breaks_the_chain() {
        assert_eq!(check(&format!("{}42\n", ledger(2).concat())).broken_chain_at, Some(2));
    }
}

//! A note, in the lock file, of the last change that was made to the baselines file under the lock.
//!
//! Another process that finds the file changed reads here whether it was changed only by those who keep the lock,
//! and since when: then only the entries that were added have to be read. A change by anybody else, such as a person
//! with an editor, leaves the note behind the file, and everything is read anew.

use std::fs::File;

use crate::files::{FileId, Stamp, read_exact_at, write_all_at};

/// Starts the note, so that the lock file of another program isn't taken for one.
const MAGIC: u64 = u64::from_le_bytes(*b"dl-mark1");
const LENGTH: usize = 64;

/// What the note says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    /// Names the order of the entries: as long as it stays the same, entries were only added at the end.
    pub epoch: u64,
    /// The baselines file after the change.
    pub stamp: Stamp,
    /// The offset after its last entry.
    pub entries_end: u64,
    /// The offset of its closing brace.
    pub closing_brace: u64,
}

impl Watermark {
    /// Reads the note from the locked lock file; `None` if there is none.
    #[must_use]
    pub fn read(lock_file: &File) -> Option<Self> {
        let mut bytes = [0; LENGTH];
        read_exact_at(lock_file, &mut bytes, 0).ok()?;
        let mut words = bytes.chunks_exact(8).map(|word| {
            let mut array = [0; 8];
            array.copy_from_slice(word);
            u64::from_le_bytes(array)
        });
        let mut next = || words.next();
        let (magic, epoch, device, inode) = (next()?, next()?, next()?, next()?);
        let (size, modified, entries_end, closing_brace) = (next()?, next()?, next()?, next()?);
        (magic == MAGIC).then_some(Self {
            epoch,
            stamp: Stamp { id: FileId::from_parts(device, inode), size, modified_ns: modified.cast_signed() },
            entries_end,
            closing_brace,
        })
    }

    /// Leaves the note in the locked lock file. If that fails the note is behind, which costs others time only.
    pub fn write(&self, lock_file: &File) {
        let (device, inode) = self.stamp.id.parts();
        let words = [
            MAGIC,
            self.epoch,
            device,
            inode,
            self.stamp.size,
            self.stamp.modified_ns.cast_unsigned(),
            self.entries_end,
            self.closing_brace,
        ];
        let mut bytes = [0; LENGTH];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let _ = write_all_at(lock_file, &bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_left() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Watermark::read(&file), None);
        let note = Watermark {
            epoch: 7,
            stamp: Stamp { id: FileId::from_parts(1, 2), size: 3, modified_ns: -4 },
            entries_end: 5,
            closing_brace: 6,
        };
        note.write(&file);
        assert_eq!(Watermark::read(&file), Some(note));
    }

    #[test]
    fn what_another_program_left_is_not_a_note() {
        let file = tempfile::tempfile().unwrap();
        write_all_at(&file, &[b'{'; 100], 0).unwrap();
        assert_eq!(Watermark::read(&file), None);
    }
}

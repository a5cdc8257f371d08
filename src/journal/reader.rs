//! Reading a journal line by line, in pieces of bounded size.

use std::fs::File;
use std::io;

use memchr::{memchr_iter, memrchr};

use crate::files::read_exact_at;

/// How much is read at once.
pub const CHUNK: usize = if cfg!(fuzzing) { 64 } else { 1 << 20 };
/// A longer line can't be a record and is not kept in memory.
pub const LONGEST_LINE: usize = if cfg!(fuzzing) { 2048 } else { 64 << 20 };
/// How much of such a line is given: enough to see that it isn't JSON.
const BEGINNING: usize = 64;

/// Calls `line` with the offset and the bytes of each line, without its line end, that ends between `from` and `to`.
/// Returns the offset after the last line end: what follows is half a line, however long. Of a line beyond 64 MiB
/// only the beginning is given.
pub fn for_each_line(file: &File, from: u64, to: u64, mut line: impl FnMut(u64, &[u8])) -> io::Result<u64> {
    // The first `filled` bytes are those of the file from `start` on.
    let mut buffer = Vec::new();
    let mut filled = 0;
    let mut start = from;
    // Where the line that the buffer starts with began, and its beginning, if it is too long to be kept.
    let mut too_long: Option<(u64, Vec<u8>)> = None;
    while start + (filled as u64) < to {
        let size = CHUNK.min(usize::try_from(to - start - filled as u64).unwrap_or(CHUNK));
        if buffer.len() < filled + size {
            buffer.resize(filled + size, 0);
        }
        read_exact_at(file, &mut buffer[filled..filled + size], start + filled as u64)?;
        let mut consumed = 0;
        for newline in memchr_iter(b'\n', &buffer[filled..filled + size]) {
            let end = filled + newline;
            match too_long.take() {
                Some((offset, beginning)) => line(offset, &beginning),
                None => line(start + consumed as u64, &buffer[consumed..end]),
            }
            consumed = end + 1;
        }
        filled += size;
        if consumed == 0 && filled > LONGEST_LINE {
            too_long.get_or_insert_with(|| (start, buffer[..BEGINNING].to_vec()));
            consumed = filled;
        }
        buffer.copy_within(consumed..filled, 0);
        filled -= consumed;
        start += consumed as u64;
    }
    Ok(too_long.map_or(start, |(offset, _)| offset))
}

/// Where the line begins that ends, without its line end, at `end`. Reads backwards, however long the line is.
pub fn line_start(file: &File, end: u64) -> io::Result<u64> {
    /// Holds most lines.
    const FIRST: usize = 4096;
    let mut buffer = Vec::new();
    let mut to = end;
    while to > 0 {
        let wanted = if to == end { FIRST } else { CHUNK };
        buffer.resize(wanted.min(usize::try_from(to).unwrap_or(wanted)), 0);
        to -= buffer.len() as u64;
        read_exact_at(file, &mut buffer, to)?;
        if let Some(line_end) = memrchr(b'\n', &buffer) {
            return Ok(to + line_end as u64 + 1);
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(content: &[u8], from: u64) -> (Vec<(u64, Vec<u8>)>, u64) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        let mut seen = Vec::new();
        let end = for_each_line(&file, from, content.len() as u64, |offset, line| {
            seen.push((offset, line.to_vec()));
        })
        .unwrap();
        (seen, end)
    }

    #[test]
    fn whole_lines_are_given_with_their_offsets() {
        let (seen, end) = lines(b"one\n\nthree\nhalf", 0);
        assert_eq!(seen, [(0, b"one".to_vec()), (4, Vec::new()), (5, b"three".to_vec())]);
        assert_eq!(end, 11);
    }

    #[test]
    fn lines_across_pieces_are_put_together() {
        let long = vec![b'x'; 3 * CHUNK + 7];
        let mut content = b"first\n".to_vec();
        content.extend_from_slice(&long);
        content.extend_from_slice(b"\nlast\n");
        let (seen, end) = lines(&content, 6);
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].0, seen[0].1.len()), (6, long.len()));
        assert_eq!(seen[1].1, b"last");
        assert_eq!(end, content.len() as u64);
    }

    #[test]
    fn half_a_line_starts_at_its_beginning_however_long_it_is() {
        let mut content = b"first\n".to_vec();
        content.resize(content.len() + LONGEST_LINE + 3 * CHUNK, b' ');
        let (seen, end) = lines(&content, 0);
        assert_eq!((seen.len(), end), (1, 6));
        content.extend_from_slice(b"\nlast\n");
        let (seen, _) = lines(&content, 0);
        assert_eq!((seen[1].0, seen[1].1.len()), (6, BEGINNING));
        assert_eq!(seen[2].1, b"last");
    }

    #[test]
    fn the_start_of_a_line_is_found_backwards() {
        let mut file = tempfile::tempfile().unwrap();
        let long = "x".repeat(2 * CHUNK);
        file.write_all(format!("a\n\n{long}\nlast").as_bytes()).unwrap();
        let end = 3 + long.len() as u64;
        let starts = [1, 2, 3, end, end + 5].map(|end| line_start(&file, end).unwrap());
        assert_eq!(starts, [0, 2, 3, 3, end + 1]);
        assert_eq!(line_start(&file, 0).unwrap(), 0);
    }
}

//! Reading a journal line by line, in pieces of bounded size.

use std::fs::File;
use std::io;

use memchr::{memchr, memrchr};

use crate::files::read_exact_at;

/// How much is read at once.
const CHUNK: usize = 1 << 20;
/// A longer line can't be a record and is not kept in memory.
pub(crate) const LONGEST_LINE: usize = 64 << 20;
/// How much of such a line is given: enough to see that it isn't JSON.
const BEGINNING: usize = 64;

/// Calls `line` with the offset and the bytes of each line, without its line end, that ends between `from` and `to`.
/// Returns the offset after the last line end: what follows is half a line. Of a line beyond 64 MiB only the beginning
/// is given.
pub fn for_each_line(file: &File, from: u64, to: u64, mut line: impl FnMut(u64, &[u8])) -> io::Result<u64> {
    let mut buffer = Vec::new();
    // Where the buffer starts in the file, and the beginning of the line it starts with if that is too long.
    let mut start = from;
    let mut too_long: Option<(u64, Vec<u8>)> = None;
    let mut read_to = from;
    while read_to < to {
        let size = CHUNK.min(usize::try_from(to - read_to).unwrap_or(CHUNK));
        let filled = buffer.len();
        buffer.resize(filled + size, 0);
        read_exact_at(file, &mut buffer[filled..], read_to)?;
        read_to += size as u64;
        let mut consumed = 0;
        let mut search_from = filled;
        while let Some(length) = memchr(b'\n', &buffer[search_from..]) {
            let end = search_from + length;
            match too_long.take() {
                Some((offset, beginning)) => line(offset, &beginning),
                None => line(start + consumed as u64, &buffer[consumed..end]),
            }
            consumed = end + 1;
            search_from = consumed;
        }
        if consumed == 0 && buffer.len() > LONGEST_LINE {
            too_long.get_or_insert_with(|| (start, buffer[..BEGINNING].to_vec()));
            consumed = buffer.len();
        }
        buffer.drain(..consumed);
        start += consumed as u64;
    }
    Ok(start)
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

//! Finds the lines of one task in a journal.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;

use hashbrown::HashTable;

use crate::files::read_exact_at;

/// The end of a chain.
const NONE: u32 = u32::MAX;

/// Where the lines of each task are: 16 bytes for each line and about as much for each task, and no text. Two tasks
/// may share a place in the index, so that whoever reads a line must look whose it is.
#[derive(Debug, Default)]
pub struct TaskIndex {
    lines: Vec<Line>,
    tasks: HashTable<Task>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Line {
    offset: u64,
    length: u32,
    /// The number of the line before this one of the same task.
    previous: u32,
}

#[derive(Debug)]
struct Task {
    hash: u64,
    last: u32,
}

impl TaskIndex {
    /// Adds a line of a task. Lines are added in the order of the file.
    pub fn add(&mut self, task_wtf8: &[u8], offset: u64, length: usize) {
        let hash = self.hasher.hash_one(task_wtf8);
        let number = u32::try_from(self.lines.len()).unwrap_or(NONE);
        let entry = self.tasks.entry(hash, |task| task.hash == hash, |task| task.hash);
        let previous = match entry {
            hashbrown::hash_table::Entry::Occupied(mut task) => {
                std::mem::replace(&mut task.get_mut().last, number)
            }
            hashbrown::hash_table::Entry::Vacant(free) => {
                free.insert(Task { hash, last: number });
                NONE
            }
        };
        self.lines.push(Line { offset, length: u32::try_from(length).unwrap_or(u32::MAX), previous });
    }

    /// How many different tasks there are.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// Reads the lines of a task from the file, oldest first.
    pub fn read(&self, file: &File, task_wtf8: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut lines: Vec<Vec<u8>> =
            self.newest_first(task_wtf8).map(|line| read_line(file, line)).collect::<io::Result<_>>()?;
        lines.reverse();
        Ok(lines)
    }

    /// Reads the lines of a task from the file, newest first, until `wanted` finds what it looks for.
    pub fn find_newest<T>(
        &self,
        file: &File,
        task_wtf8: &[u8],
        mut wanted: impl FnMut(&[u8]) -> Option<T>,
    ) -> io::Result<Option<T>> {
        for line in self.newest_first(task_wtf8) {
            if let Some(found) = wanted(&read_line(file, line)?) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn newest_first(&self, task_wtf8: &[u8]) -> impl Iterator<Item = &Line> {
        let hash = self.hasher.hash_one(task_wtf8);
        let last = self.tasks.find(hash, |task| task.hash == hash).map_or(NONE, |task| task.last);
        let line = move |number: u32| self.lines.get(number as usize);
        std::iter::successors(line(last), move |newer| line(newer.previous))
    }
}

fn read_line(file: &File, line: &Line) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; line.length as usize];
    read_exact_at(file, &mut buffer, line.offset)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_lines_of_a_task_are_found_in_order() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a1\nb1\na22\n").unwrap();
        let mut index = TaskIndex::default();
        index.add(b"a", 0, 2);
        index.add(b"b", 3, 2);
        index.add(b"a", 6, 3);
        assert_eq!(index.read(&file, b"a").unwrap(), [b"a1".to_vec(), b"a22".to_vec()]);
        assert_eq!(index.read(&file, b"c").unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(
            index.find_newest(&file, b"a", |line| Some(line.to_vec())).unwrap(),
            Some(b"a22".to_vec())
        );
        assert_eq!(index.task_count(), 2);
    }
}

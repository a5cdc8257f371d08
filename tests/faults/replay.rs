//! The disk as a power cut leaves it, rebuilt from what the shim has written down.
//!
//! The model is what POSIX promises, which is less than ext4 does: of a file, what was synced is there; of what was
//! written since, any pages. An entry of a folder is there once the folder was synced; later ones may be, in the order
//! in which they were made, whether or not the files that they name were synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PAGE: usize = 4096;

/// One operation that the process has made.
#[derive(Debug)]
pub(crate) struct Operation {
    what: u64,
    inode: u64,
    offset: usize,
    path: PathBuf,
    other: PathBuf,
    data: Vec<u8>,
}

impl Operation {
    /// Whether the disk is synced here.
    pub(crate) fn is_sync(&self) -> bool {
        matches!(self.what, 5 | 8)
    }

    /// The name of a folder made below `parent`: how a job says what was acknowledged up to here.
    pub(crate) fn mark(&self, parent: &Path) -> Option<String> {
        let name = self.path.strip_prefix(parent).ok().filter(|_| self.what == 6)?;
        (name.components().count() == 1).then(|| name.to_string_lossy().into_owned())
    }
}

/// Reads the shim's records.
pub(crate) fn operations(record: &Path) -> Vec<Operation> {
    let bytes = std::fs::read(record).unwrap();
    let mut rest = bytes.as_slice();
    let mut operations = Vec::new();
    while !rest.is_empty() {
        let mut words = [0_u64; 6];
        for word in &mut words {
            *word = u64::from_ne_bytes(take(&mut rest, 8).try_into().unwrap());
        }
        let [what, inode, offset, path_length, other_length, data] = words;
        let path = |bytes: &[u8]| PathBuf::from(String::from_utf8(bytes.to_vec()).unwrap());
        operations.push(Operation {
            what,
            inode,
            offset: usize::try_from(offset).unwrap(),
            path: path(take(&mut rest, path_length)),
            other: path(take(&mut rest, other_length)),
            data: take(&mut rest, data).to_vec(),
        });
    }
    operations
}

fn take<'a>(rest: &mut &'a [u8], length: u64) -> &'a [u8] {
    let (taken, left) = rest.split_at(usize::try_from(length).unwrap());
    *rest = left;
    taken
}

/// A source of chances that can be repeated: xorshift, from a seed that is not 0.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }
}

#[derive(Debug, Default)]
struct File<'a> {
    synced: Vec<u8>,
    written_since: Vec<&'a Operation>,
}

/// Writes what is left of `root` after the first `made` operations to `target`. With `chance`, some of what was not
/// synced is there; without, nothing of it.
pub(crate) fn cut(made: &[Operation], root: &Path, target: &Path, mut chance: Option<&mut Chance>) {
    let mut files: BTreeMap<u64, File<'_>> = BTreeMap::new();
    let mut entries: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut renamed_since: Vec<&Operation> = Vec::new();
    for operation in made {
        match operation.what {
            2 | 3 => files.entry(operation.inode).or_default().written_since.push(operation),
            5 => {
                let file = files.entry(operation.inode).or_default();
                for written in std::mem::take(&mut file.written_since) {
                    apply(&mut file.synced, written, |_| true);
                }
            }
            8 => renamed_since.retain(|change| {
                let is_here = change.path.parent() == Some(&operation.path);
                if is_here {
                    enter(&mut entries, change);
                }
                !is_here
            }),
            _ => renamed_since.push(operation),
        }
    }
    if let Some(chance) = &mut chance {
        let kept = chance.below(renamed_since.len() + 1);
        for change in &renamed_since[..kept] {
            enter(&mut entries, change);
        }
        for file in files.values_mut() {
            for written in std::mem::take(&mut file.written_since) {
                apply(&mut file.synced, written, |_| chance.below(2) == 0);
            }
        }
    }
    for (path, inode) in &entries {
        let folders = path.ancestors().skip(1).take_while(|folder| *folder != root);
        if folders.into_iter().any(|folder| entries.get(folder) != Some(&0)) {
            continue;
        }
        let path = target.join(path.strip_prefix(root).unwrap());
        match inode {
            0 => std::fs::create_dir_all(path).unwrap(),
            inode => {
                let empty = File::default();
                std::fs::write(path, &files.get(inode).unwrap_or(&empty).synced).unwrap();
            }
        }
    }
}

/// Makes, renames or removes an entry; folders have the inode 0.
fn enter(entries: &mut BTreeMap<PathBuf, u64>, change: &Operation) {
    match change.what {
        1 | 6 => drop(entries.insert(change.path.clone(), change.inode)),
        4 => {
            if let Some(inode) = entries.remove(&change.path) {
                entries.insert(change.other.clone(), inode);
            }
        }
        _ => drop(entries.remove(&change.path)),
    }
}

/// Writes those pages that `is_there` says made it to the disk.
fn apply(content: &mut Vec<u8>, written: &Operation, mut is_there: impl FnMut(usize) -> bool) {
    if written.what == 3 {
        if is_there(0) {
            content.resize(written.offset, 0);
        }
        return;
    }
    let end = written.offset + written.data.len();
    let mut at = written.offset;
    while at < end {
        let piece_end = ((at / PAGE + 1) * PAGE).min(end);
        if is_there(at / PAGE) {
            content.resize(content.len().max(piece_end), 0);
            content[at..piece_end]
                .copy_from_slice(&written.data[at - written.offset..piece_end - written.offset]);
        }
        at = piece_end;
    }
}

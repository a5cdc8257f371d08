//! Who else in this process has a file open.
//!
//! POSIX record locks die when *any* descriptor of their file is closed. The application's own copy of SQLite holds
//! such locks on the same files, so before one of our descriptors is closed, somebody has to look.

use crate::files::FileId;

/// Whether closing our `ours` descriptors of the file would leave no other descriptor of it in this process.
///
/// A descriptor that another thread opens while this looks may be missed. `false` where the system can't tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn are_all_ours(file: FileId, ours: usize) -> bool {
    // There the only others are of our own copy of SQLite, which keeps its locks.
    if cfg!(fuzzing) {
        return true;
    }
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else {
        return false;
    };
    // The links lead to the open files themselves, deleted ones included.
    let open = descriptors
        .flatten()
        .filter(|descriptor| matches!(FileId::of_path(&descriptor.path()), Ok(Some(open)) if open == file))
        .count();
    open <= ours
}

#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(super) fn are_all_ours(_: FileId, _: usize) -> bool {
    false
}

// On Windows a lock belongs to its handle: closing one never drops another's.
#[cfg(windows)]
pub(super) fn are_all_ours(_: FileId, _: usize) -> bool {
    true
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_counted_also_of_deleted_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let first = std::fs::File::create(&path).unwrap();
        let identity = FileId::of_path(&path).unwrap().unwrap();
        assert!(are_all_ours(identity, 1));
        let second = std::fs::File::open(&path).unwrap();
        assert!(!are_all_ours(identity, 1));
        std::fs::remove_file(&path).unwrap();
        assert!(!are_all_ours(identity, 1));
        drop(second);
        assert!(are_all_ours(identity, 1));
        drop(first);
    }
}

//! Which file a path means just now.

use std::io;
use std::path::Path;

/// Names a file for as long as somebody has it open; after that, another file may get the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    /// The identity of what `path` leads to, `None` if nothing is there. Opens nothing.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        match identify(path) {
            Ok(identity) => Ok(Some(identity)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(unix)]
fn identify(path: &Path) -> io::Result<FileIdentity> {
    use std::os::unix::fs::MetadataExt;

    let metadata = std::fs::metadata(path)?;
    Ok(FileIdentity { device: metadata.dev(), inode: metadata.ino() })
}

#[cfg(windows)]
fn identify(path: &Path) -> io::Result<FileIdentity> {
    match file_id::get_low_res_file_id(path)? {
        file_id::FileId::Inode { device_id, inode_number } => {
            Ok(FileIdentity { device: device_id, inode: inode_number })
        }
        file_id::FileId::LowRes { volume_serial_number, file_index } => {
            Ok(FileIdentity { device: u64::from(volume_serial_number), inode: file_index })
        }
        file_id::FileId::HighRes { volume_serial_number, file_id } => {
            // Only ReFS has identities of more than 64 bits; folding them keeps different files apart in practice.
            let [low, high] = [file_id & u128::from(u64::MAX), file_id >> 64];
            let inode = u64::try_from(low).unwrap_or_default() ^ u64::try_from(high).unwrap_or_default();
            Ok(FileIdentity { device: volume_serial_number, inode })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_took_another_s_place_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(FileIdentity::of(&path).unwrap(), None);
        let first = std::fs::File::create(&path).unwrap();
        let identity = FileIdentity::of(&path).unwrap();
        assert_eq!(FileIdentity::of(&path).unwrap(), identity);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_ne!(FileIdentity::of(&path).unwrap(), identity);
        drop(first);
    }
}

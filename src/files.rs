//! Which file is it, and has it changed?

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// Names a file independently of its path: two paths with one identity are one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

/// A file's identity, size and time of last change. Equal stamps mean, as far as the file system can tell, that
/// the file is the same and has not been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Which file.
    pub id: FileId,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written, in nanoseconds since the Unix epoch.
    pub modified_ns: i64,
}

impl Stamp {
    /// The stamp of the file that `path` names, or `None` if there is none.
    pub fn of_path(path: &Path) -> io::Result<Option<Self>> {
        match platform::of_path(path) {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The stamp of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        platform::of_file(file)
    }
}

impl FileId {
    /// The identity with these parts, as [`FileId::parts`] gave them.
    #[must_use]
    pub fn from_parts(device: u64, inode: u64) -> Self {
        Self { device, inode }
    }

    /// The device and the inode, to be written down.
    #[must_use]
    pub fn parts(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The identity of the file that `path` names, or `None` if there is none.
    pub fn of_path(path: &Path) -> io::Result<Option<Self>> {
        Ok(Stamp::of_path(path)?.map(|stamp| stamp.id))
    }
}

/// Options that open a file itself, never what a symbolic link in its place points to.
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = File::options();
    platform::follow_no_link(&mut options);
    options
}

/// The same for files that, if they are made, only their owner may read.
#[must_use]
pub fn private_options() -> OpenOptions {
    let mut options = options();
    platform::make_private(&mut options);
    options
}

/// Opens a file for reading that others may have put there: what is no regular file is refused, and never waited for.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    platform::follow_no_link_and_wait_for_nobody(options.read(true));
    let file = options.open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
}

/// Takes all rights on a file from everybody but its owner, where the system has such rights and they are more.
pub fn make_private(file: &File, metadata: &Metadata) -> io::Result<()> {
    platform::restrict(file, metadata)
}

/// Opens a file, or makes it together with its folders if the options say so.
pub fn open_with_folders(options: &OpenOptions, path: &Path) -> io::Result<File> {
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let Some(folder) = path.parent() else { return Err(error) };
            std::fs::create_dir_all(folder)?;
            options.open(path)
        }
        opened => opened,
    }
}

/// Reads into all of `buffer`, from `offset` on, whatever the file's position.
pub fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match platform::read_at(file, &mut buffer[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`, whatever the file's position.
pub fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match platform::write_at(file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the entry of the file at `path` in its folder survive a power cut, and those of the folders that were perhaps
/// made for it: the three above, which is as deep as files lie in a workspace, and the one that the workspace is in.
pub fn sync_folders(path: &Path) -> io::Result<()> {
    const DEPTH: usize = 4;
    let folders = path.ancestors().skip(1).take(DEPTH).filter(|folder| !folder.as_os_str().is_empty());
    for (distance, folder) in folders.enumerate() {
        match platform::sync_folder(folder) {
            // Whoever may not read a folder has not made anything in it.
            Err(error) if distance > 0 && error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

#[cfg(unix)]
mod platform {
    use std::fs::Permissions;
    use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};

    use super::{File, FileId, Metadata, OpenOptions, Path, Stamp, io};

    fn stamp(metadata: &Metadata) -> Stamp {
        Stamp {
            id: FileId { device: metadata.dev(), inode: metadata.ino() },
            size: metadata.size(),
            modified_ns: metadata.mtime().wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec()),
        }
    }

    pub(super) fn of_path(path: &Path) -> io::Result<Stamp> {
        path.metadata().map(|metadata| stamp(&metadata))
    }

    pub(super) fn of_file(file: &File) -> io::Result<Stamp> {
        file.metadata().map(|metadata| stamp(&metadata))
    }

    pub(super) fn follow_no_link(options: &mut OpenOptions) {
        options.custom_flags(libc::O_NOFOLLOW);
    }

    /// A pipe without a writer would else be waited for.
    pub(super) fn follow_no_link_and_wait_for_nobody(options: &mut OpenOptions) {
        options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    }

    pub(super) fn make_private(options: &mut OpenOptions) {
        options.mode(0o600);
    }

    pub(super) fn restrict(file: &File, metadata: &Metadata) -> io::Result<()> {
        if metadata.mode() & 0o777 == 0o600 {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(0o600))
    }

    pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
        match File::open(folder)?.sync_all() {
            // Some file systems can't; there is nothing more to be done there.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP)) => Ok(()),
            synced => synced,
        }
    }

    pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }
}

#[cfg(windows)]
mod platform {
    use std::os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt};

    use super::{File, FileId, Metadata, OpenOptions, Path, Stamp, io};

    /// A FILETIME counts from 1601.
    const UNIX_EPOCH_AS_FILETIME: i64 = 116_444_736_000_000_000;

    fn stamp(id: file_id::FileId, metadata: &Metadata) -> Stamp {
        let (device, inode) = match id {
            file_id::FileId::Inode { device_id, inode_number } => (device_id, inode_number),
            file_id::FileId::LowRes { volume_serial_number, file_index } => {
                (u64::from(volume_serial_number), file_index)
            }
            file_id::FileId::HighRes { volume_serial_number, file_id } => {
                (volume_serial_number, (file_id ^ (file_id >> 64)) as u64)
            }
        };
        let filetime = i64::try_from(metadata.last_write_time()).unwrap_or(i64::MAX);
        Stamp {
            id: FileId { device, inode },
            size: metadata.len(),
            modified_ns: (filetime - UNIX_EPOCH_AS_FILETIME).saturating_mul(100),
        }
    }

    pub(super) fn of_path(path: &Path) -> io::Result<Stamp> {
        Ok(stamp(file_id::get_file_id(path)?, &path.metadata()?))
    }

    pub(super) fn of_file(file: &File) -> io::Result<Stamp> {
        Ok(stamp(file_id::FileId::from(file), &file.metadata()?))
    }

    pub(super) fn follow_no_link(options: &mut OpenOptions) {
        /// Opens a reparse point, such as a symbolic link, itself.
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    }

    pub(super) fn follow_no_link_and_wait_for_nobody(options: &mut OpenOptions) {
        follow_no_link(options);
    }

    pub(super) fn make_private(_: &mut OpenOptions) {}

    pub(super) fn restrict(_: &File, _: &Metadata) -> io::Result<()> {
        Ok(())
    }

    /// NTFS keeps a journal of its folders, and has no call to sync one.
    #[expect(clippy::unnecessary_wraps, reason = "as elsewhere")]
    pub(super) fn sync_folder(_: &Path) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buffer, offset)
    }

    pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(bytes, offset)
    }
}

//! Asking the operating system which file system a path is on.

use std::fmt::Debug;
use std::io;
use std::path::Path;

use super::file_system::FileSystem;

/// Tells which file system a path is on.
pub trait Probe: Debug + Send + Sync {
    /// The file system of the file or folder at `path`, which there is; links are followed.
    fn file_system(&self, path: &Path) -> io::Result<FileSystem>;
}

/// The operating system's answer.
#[derive(Debug, Default)]
pub struct SystemProbe;

impl Probe for SystemProbe {
    fn file_system(&self, path: &Path) -> io::Result<FileSystem> {
        system::file_system(path)
    }
}

/// Always the same answer, for tests.
#[derive(Debug, Clone)]
pub struct FixedProbe(pub FileSystem);

impl Probe for FixedProbe {
    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(self.0.clone())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use super::{FileSystem, Path, io};

    pub(super) fn file_system(path: &Path) -> io::Result<FileSystem> {
        let magic = rustix::fs::statfs(path)?.f_type;
        // The numbers have 32 bits; the field is signed on some machines, and longer on others.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::unnecessary_cast,
            reason = "see above"
        )]
        Ok(FileSystem::with_magic(magic as u32))
    }
}

#[cfg(target_vendor = "apple")]
mod system {
    use super::{FileSystem, Path, io};

    pub(super) fn file_system(path: &Path) -> io::Result<FileSystem> {
        let stat = rustix::fs::statfs(path)?;
        let name: Vec<u8> =
            stat.f_fstypename.iter().map(|c| c.cast_unsigned()).take_while(|c| *c != 0).collect();
        let is_local = stat.f_flags & libc::MNT_LOCAL.cast_unsigned() != 0;
        Ok(FileSystem::with_name(&String::from_utf8_lossy(&name), is_local))
    }
}

#[cfg(windows)]
mod system {
    use std::borrow::Cow;
    use std::path::{Component, Prefix};

    use super::super::file_system::Kind;
    use super::{FileSystem, Path, io};

    /// What `GetDriveTypeW` answers for a drive of another machine and for a disk of this one.
    const DRIVE_FIXED: u32 = 3;
    const DRIVE_REMOTE: u32 = 4;

    pub(super) fn file_system(path: &Path) -> io::Result<FileSystem> {
        let named = |name, kind| FileSystem { name: Cow::Borrowed(name), kind };
        let path = std::path::absolute(path)?;
        let Some(Component::Prefix(prefix)) = path.components().next() else {
            return Ok(FileSystem::unknown());
        };
        Ok(match prefix.kind() {
            Prefix::UNC(..) | Prefix::VerbatimUNC(..) => named("unc", Kind::Network),
            Prefix::Disk(letter) | Prefix::VerbatimDisk(letter) => match drive_type(letter) {
                DRIVE_REMOTE => named("remote drive", Kind::Network),
                DRIVE_FIXED => named("local drive", Kind::Local),
                _ => FileSystem::unknown(),
            },
            _ => FileSystem::unknown(),
        })
    }

    #[allow(unsafe_code, reason = "std has no call for this")]
    fn drive_type(letter: u8) -> u32 {
        #[link(name = "kernel32")]
        unsafe extern "system" {
            fn GetDriveTypeW(root: *const u16) -> u32;
        }
        let root = [u16::from(letter), u16::from(b':'), u16::from(b'\\'), 0];
        // SAFETY: the string ends with a zero and lives through the call, which only reads it.
        unsafe { GetDriveTypeW(root.as_ptr()) }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple", windows)))]
mod system {
    use super::{FileSystem, Path, io};

    pub(super) fn file_system(_: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem::unknown())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::super::file_system::Kind;
    use super::*;

    #[test]
    fn the_system_is_asked() {
        // Neither is for workspaces, and both are everywhere.
        let named = |path: &str| SystemProbe.file_system(Path::new(path)).unwrap();
        assert_eq!(named("/proc").name, "0x00009fa0");
        assert_eq!(named("/dev/shm").kind, Kind::Local);
        assert!(SystemProbe.file_system(Path::new("/nowhere/at/all")).is_err());
    }
}

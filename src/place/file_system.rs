//! The file systems that are known, and whether locks exclude on them.

use std::borrow::Cow;

/// The file system that a path is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its name, as `mount` shows it; a number where it has none here.
    pub name: Cow<'static, str>,
    /// What kind it is.
    pub kind: Kind,
}

/// What matters about a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Used by the processes of one machine.
    Local,
    /// Layers of other file systems, as every container's root has: local for those who see the same layers.
    Overlay,
    /// Shared with other machines, or answered by a program (FUSE) that may share it.
    Network,
    /// Not in the table.
    Unknown,
}

impl FileSystem {
    /// A file system of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { name: Cow::Borrowed("unknown"), kind: Kind::Unknown }
    }

    /// Whether locks are known to exclude among all who use it; `None` where that is not known.
    #[must_use]
    pub fn locks_exclude(&self) -> Option<bool> {
        match self.kind {
            Kind::Local | Kind::Overlay => Some(true),
            Kind::Network => Some(false),
            Kind::Unknown => None,
        }
    }

    /// The file system that Linux names by this number (`f_type` of `statfs(2)`).
    #[must_use]
    pub fn with_magic(magic: u32) -> Self {
        let known = MAGIC.iter().find(|(number, ..)| *number == magic);
        known.map_or_else(
            || Self { name: Cow::Owned(format!("0x{magic:08x}")), kind: Kind::Unknown },
            |(_, name, kind)| Self { name: Cow::Borrowed(name), kind: *kind },
        )
    }

    /// The file system that macOS names so; `is_local` is its own word for whether it is (`MNT_LOCAL`).
    #[must_use]
    pub fn with_name(name: &str, is_local: bool) -> Self {
        let is_fuse = name.contains("fuse");
        let kind = if is_local && !is_fuse { Kind::Local } else { Kind::Network };
        Self { name: Cow::Owned(name.to_owned()), kind }
    }
}

/// Numbers from `linux/magic.h` and, where that has none, from the file system's own header, as coreutils' `stat`
/// lists them too.
const MAGIC: [(u32, &str, Kind); 46] = [
    (0x0000_6969, "nfs", Kind::Network),
    (0x0000_517B, "smb", Kind::Network),
    (0xFF53_4D42, "cifs", Kind::Network),
    (0xFE53_4D42, "smb2", Kind::Network),
    (0x0102_1997, "9p", Kind::Network),
    (0x6573_5546, "fuse", Kind::Network),
    (0x00C3_6400, "ceph", Kind::Network),
    (0x5346_414F, "afs", Kind::Network),
    (0x6B41_4653, "kafs", Kind::Network),
    (0x7375_7245, "coda", Kind::Network),
    (0x0000_564C, "ncp", Kind::Network),
    (0x7461_636F, "ocfs2", Kind::Network),
    // Not in magic.h.
    (0x0BD0_0BD0, "lustre", Kind::Network),
    (0x4750_4653, "gpfs", Kind::Network),
    (0x0116_1970, "gfs2", Kind::Network),
    (0x1983_0326, "beegfs", Kind::Network),
    (0x2003_0528, "orangefs", Kind::Network),
    (0x786F_4256, "vboxsf", Kind::Network),
    (0xBACB_ACBC, "vmhgfs", Kind::Network),
    (0x7C7C_6673, "prl_fs", Kind::Network),
    (0xAAD7_AAEA, "panfs", Kind::Network),
    (0x6163_6673, "acfs", Kind::Network),
    // Layers.
    (0x794C_7630, "overlay", Kind::Overlay),
    (0x6175_6673, "aufs", Kind::Overlay),
    (0x0000_F15F, "ecryptfs", Kind::Overlay),
    // One machine's.
    (0x0000_EF53, "ext4", Kind::Local),
    (0x5846_5342, "xfs", Kind::Local),
    (0x9123_683E, "btrfs", Kind::Local),
    (0x0102_1994, "tmpfs", Kind::Local),
    (0x8584_58F6, "ramfs", Kind::Local),
    (0xF2F5_2010, "f2fs", Kind::Local),
    (0x2011_BAB0, "exfat", Kind::Local),
    (0x0000_4D44, "vfat", Kind::Local),
    (0x5265_4973, "reiserfs", Kind::Local),
    (0x0000_3434, "nilfs2", Kind::Local),
    (0x2405_1905, "ubifs", Kind::Local),
    (0x0000_72B6, "jffs2", Kind::Local),
    (0xCA45_1A4E, "bcachefs", Kind::Local),
    (0x0000_9660, "iso9660", Kind::Local),
    // Not in magic.h.
    (0x2FC1_2FC1, "zfs", Kind::Local),
    (0x5346_544E, "ntfs", Kind::Local),
    (0x7366_746E, "ntfs3", Kind::Local),
    (0x3153_464A, "jfs", Kind::Local),
    (0x0000_482B, "hfsplus", Kind::Local),
    (0x1501_3346, "udf", Kind::Local),
    (0x7371_7368, "squashfs", Kind::Local),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that the header has for some of the numbers.
    const HEADER: [(&str, &str); 24] = [
        ("NFS_SUPER_MAGIC", "nfs"),
        ("SMB_SUPER_MAGIC", "smb"),
        ("CIFS_SUPER_MAGIC", "cifs"),
        ("SMB2_SUPER_MAGIC", "smb2"),
        ("V9FS_MAGIC", "9p"),
        ("FUSE_SUPER_MAGIC", "fuse"),
        ("CEPH_SUPER_MAGIC", "ceph"),
        ("AFS_SUPER_MAGIC", "afs"),
        ("AFS_FS_MAGIC", "kafs"),
        ("CODA_SUPER_MAGIC", "coda"),
        ("NCP_SUPER_MAGIC", "ncp"),
        ("OCFS2_SUPER_MAGIC", "ocfs2"),
        ("OVERLAYFS_SUPER_MAGIC", "overlay"),
        ("ECRYPTFS_SUPER_MAGIC", "ecryptfs"),
        ("EXT4_SUPER_MAGIC", "ext4"),
        ("XFS_SUPER_MAGIC", "xfs"),
        ("BTRFS_SUPER_MAGIC", "btrfs"),
        ("TMPFS_MAGIC", "tmpfs"),
        ("RAMFS_MAGIC", "ramfs"),
        ("F2FS_SUPER_MAGIC", "f2fs"),
        ("EXFAT_SUPER_MAGIC", "exfat"),
        ("MSDOS_SUPER_MAGIC", "vfat"),
        ("REISERFS_SUPER_MAGIC", "reiserfs"),
        ("NILFS_SUPER_MAGIC", "nilfs2"),
    ];

    #[test]
    #[expect(clippy::print_stdout, reason = "says that nothing was checked")]
    fn the_numbers_are_those_of_the_header() {
        let Ok(header) = std::fs::read_to_string("/usr/include/linux/magic.h") else {
            println!("not run: /usr/include/linux/magic.h is not installed");
            return;
        };
        let number = |constant: &str| {
            let line = header.lines().find(|line| line.split_whitespace().nth(1) == Some(constant))?;
            let number = line.split_whitespace().nth(2)?.trim_end_matches('U').strip_prefix("0x")?;
            u32::from_str_radix(number, 16).ok()
        };
        let mut checked = 0;
        for (constant, name) in HEADER {
            // Headers of other ages lack some.
            if let Some(number) = number(constant) {
                assert_eq!(FileSystem::with_magic(number).name, name, "{constant}");
                checked += 1;
            }
        }
        assert!(checked > 15, "{checked}");
    }

    #[test]
    fn no_number_stands_twice() {
        let numbers: std::collections::BTreeSet<_> = MAGIC.iter().map(|entry| entry.0).collect();
        assert_eq!(numbers.len(), MAGIC.len());
    }

    #[test]
    fn locks_exclude_on_local_file_systems_and_on_layers() {
        let locks = |magic| FileSystem::with_magic(magic).locks_exclude();
        assert_eq!(locks(0xEF53), Some(true));
        assert_eq!(locks(0x794C_7630), Some(true));
        assert_eq!(locks(0x6969), Some(false));
        assert_eq!(locks(0x1234), None);
        assert_eq!(FileSystem::with_magic(0x1234).name, "0x00001234");
    }

    #[test]
    fn macos_says_itself_what_is_local() {
        let kind = |name, is_local| FileSystem::with_name(name, is_local).kind;
        assert_eq!(kind("apfs", true), Kind::Local);
        assert_eq!(kind("smbfs", false), Kind::Network);
        assert_eq!(kind("macfuse", true), Kind::Network);
    }
}

//! Whether the process that holds a lease is still there.
//!
//! A process that acquires leases keeps a lock on a file of its own beside the database, in `lease-holders/`, which the
//! system drops when the process dies, however it dies. Rows name the file. A process that closes properly removes it
//! first: of a file that isn't there nothing is known, and its leases last until they expire. Of another machine's
//! processes nothing is known either: their rows name another boot. The host's name is for people; containers of one
//! machine have names of their own, and see each other's locks.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::error::{IoContext, Result};
use crate::files::{self, FileId, Stamp};

const FOLDER: &str = "lease-holders";

/// The proof that this process is alive, for as long as it is kept.
#[derive(Debug)]
pub(in crate::lease) struct Presence {
    name: String,
    path: PathBuf,
    /// Locked for as long as it is open.
    file: File,
}

impl Presence {
    /// Announces this process beside the database at `database`.
    pub(in crate::lease) fn announce(database: &Path) -> Result<Self> {
        let folder = folder(database);
        let random = Uuid::new_v4().simple().to_string();
        let name = format!("{}-{}@{}", std::process::id(), &random[..12], host());
        let path = folder.join(file_name(&name));
        let create = || {
            std::fs::create_dir_all(&folder)?;
            files::private_options().write(true).create_new(true).open(&path)
        };
        // The last one to close may be removing the folder.
        let file = create().or_else(|_| create()).context("create", &path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { name, path, file }),
            Err(TryLockError::Error(error)) => Err(error).context("lock", &path),
            // Somebody is just looking whether it is locked; it was made a moment ago.
            Err(TryLockError::WouldBlock) => {
                file.lock().context("lock", &path).map(|()| Self { name, path, file })
            }
        }
    }

    /// What rows call this process: `<pid>-<random>@<host>`.
    pub(in crate::lease) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Presence {
    /// Removes the file while it is still locked: nobody must take this for a death.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // Unless others are in it.
        let _ = self.path.parent().map(std::fs::remove_dir);
        let _ = self.file.unlock();
    }
}

/// Whether the process of this name is known to be dead.
pub(in crate::lease) fn is_dead(database: &Path, name: &str) -> bool {
    let Some(id) = safe_file_name(name) else { return false };
    let path = folder(database).join(id);
    let is_free = || -> io::Result<bool> {
        let file = files::open_regular(&path)?;
        match file.try_lock_shared() {
            // Removed meanwhile: closed properly.
            Ok(()) => Ok(FileId::of_path(&path)? == Some(Stamp::of_file(&file)?.id)),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    };
    is_free().unwrap_or(false)
}

/// Removes the files of dead processes that `is_named` in no row.
pub(in crate::lease) fn remove_unnamed(database: &Path, is_named: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder(database)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if let Some(name) = name.to_str()
            && !is_named(name)
            && is_dead(database, name)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The process id and the host in a process's name.
pub(in crate::lease) fn parts(name: &str) -> Option<(u32, &str)> {
    let (id, host) = name.split_once('@')?;
    Some((id.split_once('-')?.0.parse().ok()?, host))
}

/// The part of a process's name that its file has.
pub(in crate::lease) fn file_name(name: &str) -> &str {
    name.split_once('@').map_or(name, |(id, _)| id)
}

/// A name comes from the database, which others write too: it must not lead elsewhere.
fn safe_file_name(name: &str) -> Option<&str> {
    let id = file_name(name);
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')).then_some(id)
}

fn folder(database: &Path) -> PathBuf {
    database.with_file_name(FOLDER)
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_closes_properly_is_not_taken_for_dead() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orchestrator.db");
        let presence = Presence::announce(&database).unwrap();
        let name = presence.name().to_owned();
        assert_eq!(parts(&name).unwrap().0, std::process::id());
        assert!(!is_dead(&database, &name));
        drop(presence);
        assert!(!is_dead(&database, &name));
    }

    #[test]
    fn a_lock_that_is_gone_with_its_process_shows_a_death_until_nobody_asks_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orchestrator.db");
        let presence = Presence::announce(&database).unwrap();
        let name = presence.name().to_owned();
        // What the system does when a process dies.
        presence.file.unlock().unwrap();
        assert!(is_dead(&database, &name));
        remove_unnamed(&database, |file| file == file_name(&name));
        assert!(is_dead(&database, &name));
        remove_unnamed(&database, |_| false);
        assert!(!is_dead(&database, &name));
    }

    #[test]
    #[cfg(unix)]
    fn what_is_no_file_of_ours_is_neither_waited_for_nor_followed() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("orchestrator.db");
        let holders = super::folder(&database);
        std::fs::create_dir(&holders).unwrap();
        let made = std::process::Command::new("mkfifo").arg(holders.join("1-pipe")).status().unwrap();
        assert!(made.success());
        std::fs::write(folder.path().join("free"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("free"), holders.join("1-link")).unwrap();
        for name in ["1-pipe@host", "1-link@host"] {
            assert!(!is_dead(&database, name), "{name}");
        }
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("state/orchestrator.db");
        std::fs::write(folder.path().join("free"), "").unwrap();
        for name in ["../../free", "", "@host", "/etc/passwd@host"] {
            assert!(!is_dead(&database, name), "{name}");
        }
    }
}

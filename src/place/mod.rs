//! Where a workspace is: on which file system, whether locks exclude there, and in which worktree.
//!
//! On a network file system a lock may keep out nobody, or nobody of another machine, and SQLite's WAL needs memory
//! that all its users share. Nothing here can change that, so it is said: once in the log for each workspace and
//! process, in the health of the leases, and, to those who ask for it, by an error before anything is touched.
//!
//! [`file_system`] knows the file systems, [`probe`] asks the operating system for the one of a path.
//!
//! Agents with a git worktree each, and a workspace in each, don't exclude each other. [`worktree`] finds the folder that
//! the worktrees have in common; a workspace in another one is warned of likewise.

pub mod file_system;
pub mod probe;
pub mod worktree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub use file_system::{FileSystem, Kind};
pub use probe::{FixedProbe, Probe, SystemProbe};

use crate::error::{Error, Result};
use crate::log;

/// What is done about a workspace on a network file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkPolicy {
    /// The log gets a warning, once for each workspace and process.
    #[default]
    Warn,
    /// It is refused with [`Error::NetworkFileSystem`].
    Refuse,
}

/// Looks where `path`, a file or folder of `workspace`, is or would be made, and does what `policy` says if that is
/// on a network file system. The log gets a warning, once likewise, if the workspace is in a git worktree where agents
/// of the other worktrees won't look for it. Touches nothing.
pub fn admit(workspace: &Path, path: &Path, policy: NetworkPolicy, probe: &dyn Probe) -> Result<()> {
    admit_file_system(workspace, path, policy, probe)?;
    warn_of_worktree(workspace);
    Ok(())
}

/// [`admit`] for a workspace whose leases and records are elsewhere, so that all worktrees share them.
pub fn admit_file_system(
    workspace: &Path,
    path: &Path,
    policy: NetworkPolicy,
    probe: &dyn Probe,
) -> Result<()> {
    static NETWORK: Once = Once::new();
    let file_system = of(path, probe);
    let is_network = file_system.kind == Kind::Network;
    if is_network && policy == NetworkPolicy::Refuse {
        return Err(Error::NetworkFileSystem { path: path.to_owned(), name: file_system.name.into_owned() });
    }
    if is_network && NETWORK.is_first(workspace) {
        log::warning(
            "The workspace is on a network file system",
            &[
                ("code", "NETWORK_FILE_SYSTEM"),
                ("file_system", &file_system.name),
                ("file", &path.to_string_lossy()),
                ("not_promised", "that two agents don't hold one lease or lock, and that no record is lost"),
                (
                    "advice",
                    "keep the workspace on a local disk; networkFileSystem: 'refuse' makes this an error",
                ),
            ],
        );
    }
    Ok(())
}

fn warn_of_worktree(workspace: &Path) {
    static WORKTREE: Once = Once::new();
    // Looking costs more than remembering, so it is what is done once.
    if WORKTREE.is_first(workspace)
        && let Some(root) = worktree::shared_root(workspace)
    {
        log::warning(
            "The workspace is in one worktree of a git repository that has several",
            &[
                ("code", "WORKTREE"),
                ("workspace", &workspace.to_string_lossy()),
                ("shared_root", &root.to_string_lossy()),
                (
                    "not_promised",
                    "that agents in the other worktrees are excluded: they have other workspaces",
                ),
                (
                    "advice",
                    "let all agents use the workspace shared_root, which resolveWorkspace(path) returns",
                ),
            ],
        );
    }
}

/// The file system of a path, or of the nearest folder above it that there is.
pub fn of(path: &Path, probe: &dyn Probe) -> FileSystem {
    // What can't be looked at can't be opened either, and that will say why.
    path.ancestors()
        .find(|path| path.exists())
        .and_then(|path| probe.file_system(path).ok())
        .unwrap_or_else(FileSystem::unknown)
}

/// The workspaces for which something was done, which is to be done once for each.
struct Once(Mutex<BTreeSet<PathBuf>>);

impl Once {
    const fn new() -> Self {
        Self(Mutex::new(BTreeSet::new()))
    }

    fn is_first(&self, workspace: &Path) -> bool {
        let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !done.contains(workspace) && done.insert(workspace.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;

    fn on(name: &'static str, kind: Kind) -> FixedProbe {
        FixedProbe(FileSystem { name: Cow::Borrowed(name), kind })
    }

    #[test]
    fn a_network_file_system_is_refused_to_those_who_ask_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/orchestrator.db");
        let admit = |kind| admit(folder.path(), &path, NetworkPolicy::Refuse, &on("nfs", kind));
        let error = admit(Kind::Network).unwrap_err();
        assert_eq!(error.code(), "NETWORK_FILE_SYSTEM");
        assert!(error.to_string().contains("orchestrator.db is on nfs"), "{error}");
        for kind in [Kind::Local, Kind::Overlay, Kind::Unknown] {
            admit(kind).unwrap();
        }
        assert!(!folder.path().join("state").exists());
    }

    #[test]
    fn a_workspace_on_a_network_file_system_is_warned_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().to_string_lossy().into_owned();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        log::set_sink(Some(Arc::new(move |_, event: &str| {
            // Other tests log too.
            if event.contains(&mark) {
                sink.lock().unwrap().push(event.to_owned());
            }
        })));
        let probe = on("cifs", Kind::Network);
        for path in ["state/orchestrator.db", "state/process", "state/process"] {
            admit(folder.path(), &folder.path().join(path), NetworkPolicy::Warn, &probe).unwrap();
        }
        log::set_sink(None);
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        assert!(
            seen[0].contains("\"file_system\":\"cifs\"") && seen[0].contains("\"advice\""),
            "{}",
            seen[0]
        );
    }

    #[test]
    fn what_is_not_there_yet_is_where_its_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        let made = of(folder.path(), &SystemProbe);
        assert_eq!(of(&folder.path().join("a/b/c"), &SystemProbe), made);
    }
}

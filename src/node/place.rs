//! Where a workspace is, as JavaScript says it and asks for it.

use std::path::{Path, PathBuf};

use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

use super::arguments::{Fields, invalid, path, text};
use super::call::workspace_path;
use super::errors::{Family, to_js};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::place::{self, NetworkPolicy, SystemProbe, worktree};

/// A workspace's folder and what its user wants to be done about where it is.
#[derive(Debug, Clone)]
pub(super) struct Workspace {
    root: PathBuf,
    policy: NetworkPolicy,
}

impl Workspace {
    /// Reads the arguments of a constructor that opens nothing.
    pub(super) fn read(root: Unknown<'_>, options: Option<Unknown<'_>>) -> Result<Self> {
        let root = workspace_path(path(root, "workspaceRoot")?);
        Ok(Self { root, policy: network_policy(options)? })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Does what the policy says about where a store of the workspace is.
    pub(super) fn admit(&self, location: Location<'_>) -> Result<()> {
        match location {
            Location::Path(path) => place::admit(&self.root, path, self.policy, &SystemProbe),
            Location::Server(_) => Ok(()),
        }
    }
}

/// Finds the folder that agents in different git worktrees of one repository have in common. Agents whose workspaces
/// have different roots do not exclude each other: give this one to all of them.
///
/// From any folder of the main worktree or of a linked one it is the main worktree's root. For the worktrees of a bare
/// repository it is the repository's folder, or the folder that this lies in if a `.git` file there names it
/// (`gitdir: ./.bare`). A worktree whose git directory is elsewhere and does not note where the worktree is (`git init
/// --separate-git-dir`) has that directory, since that is all that its linked worktrees can find. A submodule is a
/// repository of its own: it has its own root, and each worktree of the repository around it has another copy of it.
/// Where there is no repository, the folder itself is returned.
///
/// Reads git's files and does not run git; its environment variables, such as `GIT_DIR`, don't count. Creates nothing.
///
/// @param path a folder that exists, or a file, which stands for its folder
/// @returns an absolute path without symbolic links: the same for all who ask
/// @throws {DriftlockError} `INVALID_ARGUMENT` if it is not a path; `IO` if it does not exist, or if a file of git's
/// can't be read or does not lead to a repository, as in a worktree whose repository was removed or moved
#[napi(ts_args_type = "path: string", catch_unwind)]
pub fn resolve_workspace(env: Env, path: Unknown<'_>) -> napi::Result<String> {
    let resolve = || {
        let root = worktree::resolve(&self::path(path, "path")?)?;
        root.into_os_string().into_string().map_err(|root| Error::Io {
            action: "return",
            path: root.into(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "its name is not valid Unicode"),
        })
    };
    resolve().map_err(|error| to_js(&env, Family::General, &error))
}

/// Reads the option `networkFileSystem`.
pub(super) fn network_policy(options: Option<Unknown<'_>>) -> Result<NetworkPolicy> {
    let policy =
        |value: Unknown<'_>, name| match text(value, name).ok().as_ref().and_then(|text| text.as_str()) {
            Some("warn") => Ok(NetworkPolicy::Warn),
            Some("refuse") => Ok(NetworkPolicy::Refuse),
            _ => Err(invalid(name, "'warn' or 'refuse'", value)),
        };
    Ok(Fields::optional(options, "options")?.read("networkFileSystem", policy)?.unwrap_or_default())
}

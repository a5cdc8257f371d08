//! Every way in which an operation can fail, with a stable code.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::text::Text;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Messages name the thing, the cause and what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller passed something that can't be used. Nothing was touched.
    #[error("{argument} must be {expected}, got {actual}")]
    InvalidArgument {
        /// The argument's name, as the caller knows it.
        argument: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        actual: String,
    },

    /// The file system refused.
    #[error("cannot {action} {}: {source}; {}", .path.display(), advice(.source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },

    /// Another process held the database's write lock for longer than the call may wait.
    #[error("database is locked")]
    DatabaseLocked,

    /// The database refused for another reason.
    #[error("{message} ({})", .path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The database's own words and, where there is one, the next step.
        message: String,
    },

    /// The database server refused.
    #[error("{message} ({server})")]
    Server {
        /// Where it is, without credentials.
        server: String,
        /// Its own words and, where there is one, the next step.
        message: String,
    },

    /// What connects to database servers can't be loaded.
    #[error(
        "driftlock's driver for PostgreSQL can't be loaded: {cause}; install driftlock again on this machine, with optional dependencies"
    )]
    NoDriver {
        /// The system's words.
        cause: String,
    },

    /// The database server did not answer for longer than the call may wait. What was asked for may have been done.
    #[error("no answer from {server} for {} ms: {cause}; look whether the server runs and can be reached, and try again", .waited.as_millis())]
    ServerUnreachable {
        /// Where it is, without credentials.
        server: String,
        /// What happened at the last try.
        cause: String,
        /// How long the call tried.
        waited: Duration,
    },

    /// The call answers at once, and its answer is on another machine.
    #[error("the leases are on {server}, which a call that answers at once can't ask; {instead}")]
    WouldBlock {
        /// Where the answer is, without credentials.
        server: String,
        /// Which call to use.
        instead: &'static str,
    },

    /// The handle was closed before the call.
    #[error("the lease manager is closed; create a new PhaseLeaseManager")]
    Closed,

    /// Another process kept a journal's lock for longer than the call may wait.
    #[error("{} is locked by another process for over {} s; look for a stopped process that uses this workspace", .path.display(), .waited.as_secs())]
    JournalLocked {
        /// The lock file.
        path: PathBuf,
        /// How long the call waited.
        waited: Duration,
    },

    /// Somebody held a lease for longer than the caller wanted to wait for it.
    #[error(
        "the lease of phase {phase} of task {task} is held by {holder}; wait longer, or look at listLeases() for who that is"
    )]
    LeaseHeld {
        /// The task.
        task: Text,
        /// The phase.
        phase: Text,
        /// Who held it, or was next in the queue for it, last.
        holder: Text,
    },

    /// The caller stopped waiting.
    #[error("waiting for the lease was cancelled")]
    Cancelled,

    /// A lease that was held is no longer.
    #[error(
        "the lease of phase {phase} of task {task} is lost: {cause}; stop the work, or acquire the lease again"
    )]
    LeaseLost {
        /// The task.
        task: Text,
        /// The phase.
        phase: Text,
        /// What happened.
        cause: String,
    },

    /// A fence's lease is not the newest one of its key.
    #[error(
        "the lease {lease_id} of phase {phase} of task {task} is no longer the newest: {newer}; nothing was written; stop the work, or acquire the lease again"
    )]
    Fenced {
        /// The task.
        task: Text,
        /// The phase.
        phase: Text,
        /// The fence's lease.
        lease_id: String,
        /// Who has it now.
        newer: String,
    },

    /// A file lock was not acquired within the limits that the caller set.
    #[error("Failed to acquire lock: {}", .path.display())]
    LockNotAcquired {
        /// The lock file.
        path: PathBuf,
    },

    /// The workspace is on a network file system, and the caller wants none.
    #[error("{} is on {name}, a network file system, where locks may not exclude and WAL may not work; keep the workspace on a local disk, or pass networkFileSystem: 'warn'", .path.display())]
    NetworkFileSystem {
        /// What was to be opened.
        path: PathBuf,
        /// The file system's name.
        name: String,
    },

    /// A file of git's that has to name a git directory doesn't.
    #[error("{} leads to no git repository: {cause}; run git worktree repair in the main worktree, or make this checkout anew", .path.display())]
    NoRepository {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },

    /// The workspace has an exporter already.
    #[error("process {process} exports the workspace {} already; stop it first, or scrape that one", .workspace.display())]
    ExporterRunning {
        /// The workspace.
        workspace: PathBuf,
        /// The id of the other's process.
        process: String,
    },

    /// A workspace's state could not be moved to another place.
    #[error("cannot migrate {from} to {to}: {cause}")]
    NotMigrated {
        /// Where it is, without credentials.
        from: String,
        /// Where it was to go, without credentials.
        to: String,
        /// What is in the way, and what to do about it.
        cause: String,
    },

    /// A defect of this library.
    #[error("driftlock failed unexpectedly: {0}; please report it")]
    Defect(String),
}

impl Error {
    /// A name for the kind of failure that stays the same from version to version.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidArgument { .. } => "INVALID_ARGUMENT",
            Self::Io { .. } | Self::NoRepository { .. } => "IO",
            Self::DatabaseLocked => "DATABASE_LOCKED",
            Self::Database { .. } => "DATABASE",
            Self::Server { .. } => "SERVER",
            Self::NoDriver { .. } => "PLATFORM_UNSUPPORTED",
            Self::ServerUnreachable { .. } => "SERVER_UNREACHABLE",
            Self::WouldBlock { .. } => "WOULD_BLOCK",
            Self::Closed => "CLOSED",
            Self::JournalLocked { .. } => "JOURNAL_LOCKED",
            Self::LeaseHeld { .. } => "LEASE_HELD",
            Self::Cancelled => "CANCELLED",
            Self::LeaseLost { .. } => "LEASE_LOST",
            Self::Fenced { .. } => "FENCED",
            Self::LockNotAcquired { .. } => "LOCK_NOT_ACQUIRED",
            Self::NetworkFileSystem { .. } => "NETWORK_FILE_SYSTEM",
            Self::ExporterRunning { .. } => "EXPORTER_RUNNING",
            Self::NotMigrated { .. } => "NOT_MIGRATED",
            Self::Defect(_) => "DEFECT",
        }
    }
}

/// Turns an I/O error into one that says what was tried, and with which file.
pub(crate) trait IoContext<T> {
    /// `action` is a verb phrase that fits between "cannot" and the path.
    fn context(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path.to_owned(), source })
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give this user the right to write there"
        }
        io::ErrorKind::NotFound => "check that the workspace still exists",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space and try again",
        io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory | io::ErrorKind::AlreadyExists => {
            "move what is there out of the way"
        }
        _ if too_many_files(error) => "raise the limit on open files (ulimit -n)",
        _ => "try again once the cause is gone",
    }
}

#[cfg(unix)]
fn too_many_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(not(unix))]
fn too_many_files(_: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_names_the_file_the_cause_and_the_next_step() {
        let error = Err::<(), _>(io::Error::from(io::ErrorKind::PermissionDenied))
            .context("open", Path::new("/w/state/orchestrator.db"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot open /w/state/orchestrator.db: permission denied; give this user the right to write there"
        );
        assert_eq!(error.code(), "IO");
    }
}

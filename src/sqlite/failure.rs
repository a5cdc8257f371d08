//! What SQLite answers when it refuses, sorted by what can be done about it.

use std::path::Path;

use rusqlite::ffi::{self, ErrorCode};

use crate::error::Error;

/// Why an attempt on a database failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another connection is in the way for now; nothing was changed.
    Busy,
    /// The disk could not be synced, and the system may take what it could not write for written.
    NotSynced(String),
    /// Trying again doesn't help. The text names the cause and, where there is one, the next step.
    Refused(String),
}

impl Failure {
    /// The error for callers, who need to know which file it was.
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Self::Busy => Error::DatabaseLocked,
            Self::NotSynced(message) | Self::Refused(message) => {
                Error::Database { path: path.to_owned(), message }
            }
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        if matches!(extended, Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)) {
            return Self::NotSynced(format!("{} while syncing the disk", words(&error)));
        }
        match error.sqlite_error_code() {
            // A lock protocol failure is what a start or an end of another process at the wrong moment looks like.
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed,
            ) => Self::Busy,
            Some(code) => Self::Refused(match advice(code) {
                Some(advice) => format!("{}; {advice}", words(&error)),
                None => words(&error),
            }),
            None => Self::Refused(error.to_string()),
        }
    }
}

fn words(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        rusqlite::Error::SqliteFailure(code, None) => ffi::code_to_str(code.extended_code).to_owned(),
        other => other.to_string(),
    }
}

fn advice(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::NotADatabase => {
            "it was left as it is: move it away or restore a backup, then create a new PhaseLeaseManager"
        }
        ErrorCode::DatabaseCorrupt => "stop all processes that use it and restore a backup",
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            "give this user the right to write the file and its folder"
        }
        ErrorCode::DiskFull => "free some space and try again",
        ErrorCode::SystemIoFailure => "look at the disk, which may be full or failing, and try again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_in_all_its_forms_is_worth_another_try() {
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_BUSY_RECOVERY] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            assert!(matches!(Failure::from(error), Failure::Busy), "{code}");
        }
        assert_eq!(Failure::Busy.at(Path::new("/w")).to_string(), "database is locked");
    }
}

//! Where a store is.

use std::fmt;
use std::path::Path;

/// Where a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location<'a> {
    /// In this file, or in files of this folder.
    Path(&'a Path),
    /// On this server: its address, database and schema, without credentials.
    Server(&'a str),
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Server(server) => f.write_str(server),
        }
    }
}

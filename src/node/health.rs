//! How the store of leases is, as JavaScript sees it.

use napi::Either;
use napi_derive::napi;

use crate::lease::{self, ClockSource, StoreHealth};
use crate::place::{self, FileSystem, Kind, SystemProbe};

/// The file system that a path is on.
#[napi(object, object_from_js = false)]
pub struct FileSystemHealth {
    /// Its name, such as `ext4` or `nfs`; a number where it is not known.
    pub name: String,
    /// Whether it is this machine's; `overlay` is what containers have, `network` includes FUSE.
    #[napi(ts_type = "'local' | 'overlay' | 'network' | 'unknown'")]
    pub kind: String,
    /// Whether locks exclude among all who use it. Absent if that is not known.
    pub locks_exclude: Option<bool>,
}

/// How a workspace's database is, for those who operate it.
#[napi(object, object_from_js = false)]
pub struct DatabaseHealth {
    /// Where leases are kept.
    #[napi(ts_type = "'sqlite'")]
    pub store: &'static str,
    /// The database file.
    pub database_path: String,
    /// Its size in bytes, without its log.
    pub database_bytes: f64,
    /// The size of its write-ahead log in bytes. One that keeps growing has a reader somewhere that doesn't end.
    pub log_bytes: f64,
    /// Whether it is in WAL mode, as it should be.
    pub wal: bool,
    /// Whether the table of leases was made by the code before driftlock. It works, but each change takes longer.
    pub old_schema: bool,
    /// What leases go by: the time since the machine started, or the wall clock, which can be set.
    #[napi(ts_type = "'boot' | 'wall'")]
    pub clock: &'static str,
    /// Where the database is.
    pub file_system: FileSystemHealth,
}

/// How a schema on a PostgreSQL server is, for those who operate it.
#[napi(object, object_from_js = false)]
pub struct ServerHealth {
    /// Where leases are kept.
    #[napi(ts_type = "'postgres'")]
    pub store: &'static str,
    /// The server's address, database and schema, without credentials.
    pub server: String,
    /// The server's version, in its own words.
    pub server_version: String,
    /// The version of the part of the schema that leases are in.
    pub schema_version: f64,
    /// The size of the schema's tables and indexes in bytes.
    pub database_bytes: f64,
    /// What leases go by: the server's wall clock. Setting that ends or prolongs leases.
    #[napi(ts_type = "'server'")]
    pub clock: &'static str,
    /// By how many milliseconds the server's clock is ahead of this machine's, within the time that one request takes.
    /// Leases don't depend on it.
    pub clock_ahead_ms: f64,
}

/// Either kind.
pub(super) type LeaseHealth = Either<DatabaseHealth, ServerHealth>;

#[allow(clippy::cast_precision_loss, reason = "sizes and durations stay far below 2^53")]
pub(super) fn health(health: StoreHealth) -> LeaseHealth {
    match health {
        StoreHealth::Workspace(lease::DatabaseHealth {
            database,
            database_bytes,
            log_bytes,
            is_wal,
            is_old_schema,
            clock,
        }) => Either::A(DatabaseHealth {
            store: "sqlite",
            file_system: place::of(&database, &SystemProbe).into(),
            database_path: database.to_string_lossy().into_owned(),
            database_bytes: database_bytes as f64,
            log_bytes: log_bytes as f64,
            wal: is_wal,
            old_schema: is_old_schema,
            clock: match clock {
                ClockSource::Boot => "boot",
                ClockSource::Wall => "wall",
            },
        }),
        StoreHealth::Server(health) => Either::B(ServerHealth {
            store: "postgres",
            server: health.server,
            server_version: health.version,
            schema_version: health.schema_version as f64,
            database_bytes: health.bytes as f64,
            clock: "server",
            clock_ahead_ms: health.clock_ahead_ms as f64,
        }),
    }
}

impl From<FileSystem> for FileSystemHealth {
    fn from(file_system: FileSystem) -> Self {
        let kind = match file_system.kind {
            Kind::Local => "local",
            Kind::Overlay => "overlay",
            Kind::Network => "network",
            Kind::Unknown => "unknown",
        };
        Self {
            locks_exclude: file_system.locks_exclude(),
            name: file_system.name.into_owned(),
            kind: kind.to_owned(),
        }
    }
}

//! What is said about leases.

use std::path::PathBuf;

use crate::text::Text;

/// What a lease is for. At most one agent holds a lease for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseKey<'a> {
    /// The task; any string.
    pub task: &'a Text,
    /// The phase of the task; any string.
    pub phase: &'a Text,
}

/// A lease, as the store has it. Whether it has expired is for the store to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Names this acquisition; the same over renewals, another one for the next acquisition. A UUID.
    pub lease_id: String,
    /// The task.
    pub task_id: Text,
    /// The phase of the task.
    pub phase: Text,
    /// The holder.
    pub agent_id: Text,
    /// When it was acquired: wall time, ISO 8601, for people. Set clocks don't change what is held.
    pub acquired_at: String,
    /// When it expires unless renewed: wall time, ISO 8601, for people and for programs of before.
    pub expires_at: String,
    /// How often it was renewed.
    pub renewed_count: u64,
    /// Greater than that of any earlier lease of this key, over releases, expiries and restarts: whoever is shown
    /// two tokens knows which holder is the later one. At least 1; 0 for a lease of which the store knows none.
    pub fencing_token: i64,
}

/// The answer to an attempt to acquire a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquisition {
    /// The lease is the caller's.
    Acquired(Lease),
    /// Somebody holds it, perhaps the caller.
    Held {
        /// Who.
        holder: Text,
        /// How long the lease still lasts if not renewed, in milliseconds; never negative.
        remaining_ms: i64,
    },
}

/// The answer to an attempt to renew a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lasts for its full duration again.
    Renewed {
        /// When it expires now: wall time, in milliseconds since the Unix epoch.
        expires_at_ms: i64,
    },
    /// The caller doesn't hold the lease.
    NotHeld,
    /// The caller holds the lease and has renewed it as often as it may.
    MaxRenewalsExceeded,
}

/// How the store is, for those who operate it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    /// Of a store in the workspace's database.
    Workspace(DatabaseHealth),
    /// Of a store on a database server.
    Server(ServerHealth),
}

/// How a workspace's database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseHealth {
    /// The file.
    pub database: PathBuf,
    /// The database's size in bytes, without its log.
    pub database_bytes: u64,
    /// The size of its write-ahead log in bytes. One that keeps growing has a reader that doesn't end.
    pub log_bytes: u64,
    /// Whether it is in WAL mode, as it should be.
    pub is_wal: bool,
    /// Whether the table has the shape of the old code, which works and is slower.
    pub is_old_schema: bool,
    /// What leases go by.
    pub clock: ClockSource,
}

/// What leases go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockSource {
    /// The time since the machine started, which nobody can set.
    Boot,
    /// The wall clock: setting it ends or prolongs leases.
    Wall,
}

/// How a schema on a database server is. Leases go by the server's wall clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerHealth {
    /// Where it is, without credentials.
    pub server: String,
    /// The server's version, in its own words.
    pub version: String,
    /// The size of the schema's tables and indexes in bytes.
    pub bytes: u64,
    /// The version of the part of the schema that leases are in.
    pub schema_version: i64,
    /// By how many milliseconds the server's clock is ahead of this machine's, within the time that one request takes.
    pub clock_ahead_ms: i64,
}

/// What has happened to leases since the store was made, in all processes, and how they stand now.
///
/// Counted once it is committed. What a process has counted in its last half second before it was killed is lost, and what
/// other processes counted may show up that late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseTotals {
    /// Leases granted, those of claims for several one by one.
    pub acquired: u64,
    /// Requests that were refused, at once or after a wait, because somebody had the lease.
    pub contended: u64,
    /// Requests that failed.
    pub acquire_errors: u64,
    /// Renewals, also those of leases that are held.
    pub renewed: u64,
    /// Renewals refused because the caller hadn't the lease, or had renewed it as often as it may.
    pub renewals_refused: u64,
    /// Renewals that failed; of a lease that is held, each try.
    pub renewal_errors: u64,
    /// Expired leases that were granted again before they were released or swept.
    pub takeovers_expired: u64,
    /// Leases of dead processes that were granted to others before they expired.
    pub takeovers_dead_holder: u64,
    /// Leases that were released by force.
    pub forced_releases: u64,
    /// Holds that ended.
    pub finished_holds: u64,
    /// How long these lasted together, in milliseconds.
    pub finished_hold_ms: u64,
    /// Leases that have not expired.
    pub active: u64,
    /// Leases that have, and that nobody has taken over.
    pub expired: u64,
    /// For how long the oldest active lease has been held, in milliseconds; 0 without one.
    pub oldest_age_ms: i64,
    /// Claims that wait in the queue.
    pub waiters: u64,
}

/// Figures about the leases of all agents.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LeaseStats {
    /// Leases in the store, expired ones included.
    pub total_leases: u64,
    /// Those that have not expired.
    pub active_leases: u64,
    /// Those that have.
    pub expired_leases: u64,
    /// How long finished holds lasted on average, in seconds; 0 if there were none. A hold is finished by its
    /// release, or, when it expired, at its expiry, counted once somebody takes it over or it is swept.
    pub average_hold_time_s: f64,
    /// The greatest number of renewals among the leases in the store.
    pub max_renewals: u64,
    /// Acquisitions that were refused because somebody held the lease.
    pub contention_events: u64,
}

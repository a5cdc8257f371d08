//! What is said about leases, as JavaScript sees it.

use napi_derive::napi;

use super::arguments::{JsText, js_text};
use crate::lease::{Acquisition, Lease};

/// The right of one agent to work on a phase of a task.
#[napi(object, object_from_js = false)]
pub struct PhaseLease {
    /// Names this lease (UUID). It stays the same when the lease is renewed.
    #[napi(js_name = "lease_id")]
    pub lease_id: String,
    /// The task.
    #[napi(js_name = "task_id", ts_type = "string")]
    pub task_id: JsText,
    /// The phase.
    #[napi(ts_type = "WorkPhase")]
    pub phase: JsText,
    /// The holder.
    #[napi(js_name = "agent_id", ts_type = "string")]
    pub agent_id: JsText,
    /// When it was acquired (ISO 8601, milliseconds, Z).
    #[napi(js_name = "acquired_at")]
    pub acquired_at: String,
    /// When it ends unless it is renewed (ISO 8601, milliseconds, Z). By the wall clock at the time it was written;
    /// what counts is the time that passes, so setting the clock neither ends nor prolongs a lease.
    #[napi(js_name = "expires_at")]
    pub expires_at: String,
    /// How often it was renewed.
    #[napi(js_name = "renewed_count")]
    pub renewed_count: f64,
    /// A whole number that is higher than that of every earlier lease of this task and phase, over releases,
    /// expiries, restarts, clock changes and power cuts. Whoever guards a resource can refuse a holder whose token
    /// is not the highest it has seen (Kleppmann, "How to do distributed locking", 2016).
    #[napi(js_name = "fencing_token")]
    pub fencing_token: f64,
}

/// The answer to an attempt to acquire a lease.
#[napi(object, object_from_js = false)]
pub struct LeaseAcquisitionResult {
    /// Whether the caller has the lease now.
    pub acquired: bool,
    /// The lease, if it was acquired.
    pub lease: Option<PhaseLease>,
    /// Why it was not acquired: `'Lease already held by another agent'` or `'Internal error: …'`.
    pub reason: Option<String>,
    /// Who holds it, if somebody does.
    #[napi(ts_type = "string")]
    pub holder: Option<JsText>,
    /// In how many whole seconds the holder's lease ends, rounded down, never negative.
    pub expires_in: Option<f64>,
}

/// The answer to an attempt to renew a lease.
#[napi(object, object_from_js = false)]
pub struct LeaseRenewalResult {
    /// Whether the lease was renewed.
    pub renewed: bool,
    /// When it ends now (ISO 8601, milliseconds, Z), if it was renewed.
    pub expires_at: Option<String>,
    /// Why it was not renewed: `'Lease not held by this agent'`, `'Max renewals (N) exceeded'` or
    /// `'Internal error: …'`.
    pub reason: Option<String>,
}

/// The state of all leases of a workspace.
#[napi(object, object_from_js = false)]
pub struct LeaseStats {
    /// The leases in the table.
    pub total_leases: f64,
    /// Those of them that have not ended.
    pub active_leases: f64,
    /// Those of them that have ended and that nobody has taken over or released.
    pub expired_leases: f64,
    /// The mean duration, in seconds, of all holds that are over; 0 if none is. It may lag by a second.
    pub average_hold_time: f64,
    /// The highest number of renewals among the leases in the table.
    pub max_renewals: f64,
    /// How many acquisitions, of all processes, were refused because the lease was held. It may lag by a second.
    pub contention_events: f64,
}

#[allow(clippy::cast_precision_loss, reason = "counts of leases stay far below 2^53")]
pub(super) fn count(number: u64) -> f64 {
    number as f64
}

impl LeaseAcquisitionResult {
    /// A refusal that names no holder.
    pub(super) fn refused(reason: String) -> Self {
        Self { acquired: false, lease: None, reason: Some(reason), holder: None, expires_in: None }
    }
}

impl From<Acquisition> for LeaseAcquisitionResult {
    fn from(acquisition: Acquisition) -> Self {
        match acquisition {
            Acquisition::Acquired(lease) => Self {
                acquired: true,
                lease: Some(lease.into()),
                reason: None,
                holder: None,
                expires_in: None,
            },
            Acquisition::Held { holder, remaining_ms } => Self {
                acquired: false,
                lease: None,
                reason: Some("Lease already held by another agent".to_owned()),
                holder: Some(js_text(&holder)),
                expires_in: Some(count(u64::try_from(remaining_ms / 1000).unwrap_or(0))),
            },
        }
    }
}

impl From<Lease> for PhaseLease {
    fn from(lease: Lease) -> Self {
        Self {
            lease_id: lease.lease_id,
            task_id: js_text(&lease.task_id),
            phase: js_text(&lease.phase),
            agent_id: js_text(&lease.agent_id),
            acquired_at: lease.acquired_at,
            expires_at: lease.expires_at,
            renewed_count: count(lease.renewed_count),
            fencing_token: count(u64::try_from(lease.fencing_token).unwrap_or(0)),
        }
    }
}

impl From<crate::lease::LeaseStats> for LeaseStats {
    fn from(stats: crate::lease::LeaseStats) -> Self {
        Self {
            total_leases: count(stats.total_leases),
            active_leases: count(stats.active_leases),
            expired_leases: count(stats.expired_leases),
            average_hold_time: stats.average_hold_time_s,
            max_renewals: count(stats.max_renewals),
            contention_events: count(stats.contention_events),
        }
    }
}

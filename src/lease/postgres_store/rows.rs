//! What the server's rows say of leases.

use crate::postgres::Row;
use uuid::Uuid;

use crate::clock::iso_timestamp;
use crate::lease::model::{Lease, LeaseKey};
use crate::postgres::Failure;
pub(super) use crate::postgres::rows::{count, only, text, time_ms, unexpected, value};

/// The lease in a row.
pub(super) fn lease(row: &Row, key: LeaseKey<'_>, lease_id: Uuid) -> Result<Lease, Failure> {
    Ok(Lease {
        lease_id: lease_id.to_string(),
        task_id: key.task.clone(),
        phase: key.phase.clone(),
        agent_id: text(row, "r_agent")?,
        acquired_at: iso_timestamp(time_ms(row, "r_acquired_at")?),
        expires_at: iso_timestamp(time_ms(row, "r_expires_at")?),
        renewed_count: count(row, "r_renewed_count")?,
        fencing_token: value(row, "r_token")?,
    })
}

//! Leases that another store has granted.

use postgres_types::Type;
use uuid::Uuid;

use super::keys::{KeyId, locks};
use super::rows::{only, value};
use super::server::Server;
use super::{LONGEST_MS, uuid_of};
use crate::error::Result;
use crate::lease::claim::ListedLease;
use crate::lease::model::LeaseKey;
use crate::lease::patience::Wait;

/// No token above this one was given.
pub(super) fn highest_token(server: &Server, wait: Wait<'_>) -> Result<i64> {
    const SQL: &str = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS r_token
        FROM @schema@.tokens";
    server.call(wait, |attempt| {
        let rows = server.statement(attempt.session, SQL, &[], attempt.deadline)?;
        value(only(&rows)?, "r_token")
    })
}

/// Takes leases in, unless there is one for their keys, and gives no token any more up to `above`.
pub(super) fn take_in(server: &Server, leases: &[ListedLease], above: i64, wait: Wait<'_>) -> Result<()> {
    let id = |listed: &ListedLease| {
        let key = LeaseKey { task: &listed.lease.task_id, phase: &listed.lease.phase };
        KeyId::of(key, server.schema())
    };
    let ids: Vec<KeyId> = leases.iter().map(id).collect();
    let of = |text: fn(&ListedLease) -> &[u8]| -> Vec<&[u8]> { leases.iter().map(text).collect() };
    let keys: Vec<&[u8]> = ids.iter().map(|id| &id.digest[..]).collect();
    let key_locks: Vec<i64> = ids.iter().map(|id| id.lock).collect();
    let lease_ids: Vec<Uuid> = leases.iter().map(|listed| uuid_of(&listed.lease.lease_id)).collect();
    let tokens: Vec<i64> = leases.iter().map(|listed| listed.lease.fencing_token).collect();
    let held: Vec<i64> = leases.iter().map(|listed| listed.held_ms.min(LONGEST_MS)).collect();
    let remaining: Vec<i64> = leases.iter().map(|listed| listed.remaining_ms.min(LONGEST_MS)).collect();
    let renewed: Vec<i64> =
        leases.iter().map(|listed| i64::try_from(listed.lease.renewed_count).unwrap_or(i64::MAX)).collect();
    server.call(wait, |attempt| {
        let rows = server.function(
            attempt.session,
            "take_in_1",
            &[
                (&locks(&ids), Type::INT8_ARRAY),
                (&key_locks, Type::INT8_ARRAY),
                (&keys, Type::BYTEA_ARRAY),
                (&of(|listed| listed.lease.task_id.as_wtf8()), Type::BYTEA_ARRAY),
                (&of(|listed| listed.lease.phase.as_wtf8()), Type::BYTEA_ARRAY),
                (&lease_ids, Type::UUID_ARRAY),
                (&of(|listed| listed.lease.agent_id.as_wtf8()), Type::BYTEA_ARRAY),
                (&tokens, Type::INT8_ARRAY),
                (&held, Type::INT8_ARRAY),
                (&remaining, Type::INT8_ARRAY),
                (&renewed, Type::INT8_ARRAY),
                (&above, Type::INT8),
            ],
            attempt.deadline,
        );
        rows.map(drop)
    })
}

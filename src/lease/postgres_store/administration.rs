//! What operators ask and do, and the check of a fence.

use crate::postgres::Row;
use postgres_types::Type;
use uuid::Uuid;

use super::keys::KeyId;
use super::rows::{self, count, only, text, time_ms, value};
use super::server::Server;
use crate::clock::iso_timestamp;
use crate::error::{Error, Result};
use crate::lease::claim::{EventKind, Fence, LeaseEvent, ListedLease};
use crate::lease::model::{Lease, LeaseKey, ServerHealth, StoreHealth};
use crate::lease::patience::Wait;
use crate::lease::presence;
use crate::postgres::Failure;
use crate::text::Text;

/// The lease for a key, also an expired one.
pub(super) fn get(server: &Server, id: KeyId, key: LeaseKey<'_>, wait: Wait<'_>) -> Result<Option<Lease>> {
    const SQL: &str = "SELECT lease_id AS r_lease_id, agent AS r_agent, acquired_at AS r_acquired_at,
        expires_at AS r_expires_at, renewed_count AS r_renewed_count, token AS r_token
        FROM @schema@.leases WHERE key = $1";
    server.call(wait, |attempt| {
        let parameters = &[(&&id.digest[..] as _, Type::BYTEA)];
        let rows = server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
        rows.first().map(|row| rows::lease(row, key, value(row, "r_lease_id")?)).transpose()
    })
}

/// Whether `holder` has the lease for a key and it has not expired.
pub(super) fn holds(server: &Server, id: KeyId, holder: &Text, wait: Wait<'_>) -> Result<bool> {
    const SQL: &str = "SELECT EXISTS (SELECT 1 FROM @schema@.leases
        WHERE key = $1 AND agent = $2 AND expires_at > @schema@.now_1()) AS r_holds";
    server.call(wait, |attempt| {
        let parameters = &[(&&id.digest[..] as _, Type::BYTEA), (&holder.as_wtf8() as _, Type::BYTEA)];
        let rows = server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
        value(only(&rows)?, "r_holds")
    })
}

/// Ends a lease, whoever's it is, with a record.
pub(super) fn force_release(
    server: &Server,
    id: KeyId,
    key: LeaseKey<'_>,
    by: &Text,
    reason: &Text,
    wait: Wait<'_>,
) -> Result<Option<Lease>> {
    let request = Uuid::new_v4();
    server.call(wait, |attempt| {
        let rows = server.function(
            attempt.session,
            "force_release_1",
            &[
                (&id.lock, Type::INT8),
                (&&id.digest[..], Type::BYTEA),
                (&by.as_wtf8(), Type::BYTEA),
                (&reason.as_wtf8(), Type::BYTEA),
                (&request, Type::UUID),
                (&attempt.client, Type::UUID),
            ],
            attempt.deadline,
        )?;
        rows.first().map(|row| rows::lease(row, key, value(row, "r_lease_id")?)).transpose()
    })
}

/// Runs `work` under the key's lock if the fence's lease is the newest one of it.
///
/// If the connection is lost while `work` runs, or if this process is stopped for so long that the server ends the
/// transaction (10 s), the lock is gone before `work` is done: that it goes on then is the window that remains.
pub(super) fn fenced(
    server: &Server,
    id: KeyId,
    fence: &Fence,
    work: &mut dyn FnMut() -> Result<()>,
    wait: Wait<'_>,
) -> Result<Result<()>> {
    server.call(wait, |attempt| {
        let (session, deadline) = (attempt.session, attempt.deadline);
        session.batch("BEGIN ISOLATION LEVEL READ COMMITTED", deadline)?;
        let parameters = &[(&id.lock as _, Type::INT8), (&&id.digest[..] as _, Type::BYTEA)];
        let result = server
            .function(session, "fence_1", parameters, deadline)
            .and_then(|rows| rows.first().map(|row| newest(row, fence)).transpose())
            .map(|newest| match newest {
                Some(None) => work(),
                Some(Some(newer)) => Err(refused(fence, newer)),
                None => Err(refused(fence, "it was released".to_owned())),
            });
        // Nothing was written there. What `work` has done is done, whatever this says.
        let ended = session.batch("ROLLBACK", deadline.max(std::time::Instant::now() + ROLLBACK));
        match (result, ended) {
            (Ok(result), _) => Ok(result),
            (Err(failure), _) => Err(failure),
        }
    })
}

/// How long the end of a fence's transaction may take.
const ROLLBACK: std::time::Duration = std::time::Duration::from_secs(1);

/// `None` if the fence's lease is the one in the row; else which one that is.
pub(super) fn newest(row: &Row, fence: &Fence) -> Result<Option<String>, Failure> {
    let (id, token) = (value::<Uuid>(row, "r_lease_id")?.to_string(), value::<i64>(row, "r_token")?);
    if id == fence.lease_id && token == fence.token {
        return Ok(None);
    }
    Ok(Some(format!("{} has it now, by lease {id}, token {token}", text(row, "r_agent")?)))
}

pub(super) fn refused(fence: &Fence, newer: String) -> Error {
    let (task, phase) = (fence.key.task.clone(), fence.key.phase.clone());
    Error::Fenced { task, phase, lease_id: fence.lease_id.clone(), newer }
}

/// All leases, by task and phase.
pub(super) fn list(server: &Server, wait: Wait<'_>) -> Result<Vec<ListedLease>> {
    const SQL: &str = "SELECT lease_id AS r_lease_id, task AS r_task, phase AS r_phase, agent AS r_agent,
        acquired_at AS r_acquired_at, expires_at AS r_expires_at, renewed_count AS r_renewed_count, token AS r_token,
        process AS r_process, now.now AS r_now, coalesce(waiting.count, 0) AS r_waiters
        FROM (SELECT @schema@.now_1() AS now OFFSET 0) AS now, @schema@.leases
        LEFT JOIN (SELECT key, count(*) AS count FROM @schema@.waiters
          WHERE until_at > (SELECT @schema@.now_1()) GROUP BY key) AS waiting USING (key)
        ORDER BY task, phase";
    server.call(wait, |attempt| {
        let rows = server.statement(attempt.session, SQL, &[], attempt.deadline)?;
        rows.iter().map(listed).collect()
    })
}

fn listed(row: &Row) -> Result<ListedLease, Failure> {
    let (task, phase) = (text(row, "r_task")?, text(row, "r_phase")?);
    let now = time_ms(row, "r_now")?;
    let process = presence::parts(value(row, "r_process")?).map(|(id, host)| (id, host.to_owned()));
    Ok(ListedLease {
        lease: rows::lease(row, LeaseKey { task: &task, phase: &phase }, value(row, "r_lease_id")?)?,
        process,
        held_ms: (now - time_ms(row, "r_acquired_at")?).max(0),
        remaining_ms: (time_ms(row, "r_expires_at")? - now).max(0),
        waiters: count(row, "r_waiters")?,
    })
}

/// The id of the latest event; 0 without any.
pub(super) fn latest_event(server: &Server, wait: Wait<'_>) -> Result<i64> {
    const SQL: &str = "SELECT coalesce(max(id), 0) AS r_id FROM @schema@.events";
    server.call(wait, |attempt| {
        let rows = server.statement(attempt.session, SQL, &[], attempt.deadline)?;
        value(only(&rows)?, "r_id")
    })
}

/// The events after the one of this id, oldest first.
pub(super) fn events_after(server: &Server, id: i64, wait: Wait<'_>) -> Result<Vec<LeaseEvent>> {
    const SQL: &str = "SELECT id, kind, at, task, phase, agent, token, by, reason FROM @schema@.events
        WHERE id > $1 ORDER BY id";
    server.call(wait, |attempt| {
        let rows = server.statement(attempt.session, SQL, &[(&id, Type::INT8)], attempt.deadline)?;
        // A kind of a later version is left to it.
        rows.iter().filter_map(|row| event(row).transpose()).collect()
    })
}

fn event(row: &Row) -> Result<Option<LeaseEvent>, Failure> {
    let kind: &str = value(row, "kind")?;
    let Some(kind) = EventKind::ALL.into_iter().find(|known| known.name() == kind) else { return Ok(None) };
    let optional = |column| {
        let bytes: Option<Vec<u8>> = value(row, column)?;
        Ok(bytes.and_then(Text::from_wtf8))
    };
    Ok(Some(LeaseEvent {
        id: value(row, "id")?,
        kind,
        at: iso_timestamp(time_ms(row, "at")?),
        task_id: text(row, "task")?,
        phase: text(row, "phase")?,
        agent_id: text(row, "agent")?,
        fencing_token: Some(value(row, "token")?),
        by: optional("by")?,
        reason: optional("reason")?,
    }))
}

/// How the store is.
pub(super) fn health(server: &Server, wait: Wait<'_>) -> Result<StoreHealth> {
    const SQL: &str = "SELECT current_setting('server_version') AS r_version, clock_timestamp() AS r_now,
        (SELECT version FROM @schema@.versions WHERE part = 'leases') AS r_schema_version,
        (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c
          WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r') AS r_bytes";
    let schema = crate::postgres::quoted(server.schema());
    server.call(wait, |attempt| {
        let before = server.clock.wall_ms();
        let rows = server.statement(attempt.session, SQL, &[(&schema, Type::TEXT)], attempt.deadline)?;
        let after = server.clock.wall_ms();
        let row = only(&rows)?;
        Ok(StoreHealth::Server(ServerHealth {
            server: server.pool.address().to_string(),
            version: value(row, "r_version")?,
            bytes: count(row, "r_bytes")?,
            schema_version: value(row, "r_schema_version")?,
            clock_ahead_ms: time_ms(row, "r_now")? - before.midpoint(after),
        }))
    })
}

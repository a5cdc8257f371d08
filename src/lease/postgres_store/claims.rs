//! Claims: several leases at once, with a place in the queue, in exchange for another lease, from the dead.

use crate::postgres::Row;
use postgres_types::Type;
use uuid::Uuid;

use super::keys::{KeyId, locks};
use super::rows::{self, only, text, time_ms, value};
use super::server::Server;
use super::{LONGEST_MS, uuid_of};
use crate::error::{Error, Result};
use crate::lease::claim::{Claim, Claimed, Ticket};
use crate::lease::patience::Wait;
use crate::postgres::{Attempt, Failure};

/// A claim and what names it at the server: the same for all tries, so that none is granted twice.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) claim: Claim,
    keys: Vec<KeyId>,
    given: Option<(KeyId, Option<Uuid>)>,
    lease_ids: Vec<Uuid>,
    id: Uuid,
}

/// What a try got.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) claimed: Claimed,
    /// After how many milliseconds another try may do better.
    pub(super) retry_ms: i64,
}

impl Request {
    pub(super) fn new(claim: &Claim, schema: &str) -> Self {
        let lease_ids = claim.keys.iter().map(|_| Uuid::new_v4()).collect();
        Self::with_ids(claim, lease_ids, schema)
    }

    /// One whose leases are to have these ids.
    pub(super) fn with_ids(claim: &Claim, lease_ids: Vec<Uuid>, schema: &str) -> Self {
        let given = claim.instead_of.as_ref();
        Self {
            claim: claim.clone(),
            keys: KeyId::all(&claim.keys, schema),
            given: given
                .map(|(key, lease_id)| (KeyId::of(key.as_key(), schema), lease_id.as_deref().map(uuid_of))),
            lease_ids,
            id: Uuid::new_v4(),
        }
    }

    /// Tries once. With a ticket it keeps its place in the queue, else it gets one if the claim wants to wait.
    pub(super) fn send(
        &self,
        server: &Server,
        attempt: &mut Attempt<'_>,
        ticket: Option<Ticket>,
        dead: &[String],
        process: &str,
    ) -> Result<Reply, Failure> {
        let Self { claim, keys, given, lease_ids, id } = self;
        let all_locks = locks(keys.iter().chain(given.iter().map(|(key, _)| key)));
        let key_locks: Vec<i64> = keys.iter().map(|key| key.lock).collect();
        let tasks: Vec<&[u8]> = claim.keys.iter().map(|key| key.task.as_wtf8()).collect();
        let phases: Vec<&[u8]> = claim.keys.iter().map(|key| key.phase.as_wtf8()).collect();
        let given_key = given.as_ref().map(|(key, _)| &key.digest[..]);
        let given_lease = given.as_ref().and_then(|(_, lease_id)| *lease_id);
        let rows = server.function(
            attempt.session,
            "claim_1",
            &[
                (&all_locks, Type::INT8_ARRAY),
                (&key_locks, Type::INT8_ARRAY),
                (&digests(keys), Type::BYTEA_ARRAY),
                (&tasks, Type::BYTEA_ARRAY),
                (&phases, Type::BYTEA_ARRAY),
                (lease_ids, Type::UUID_ARRAY),
                (&claim.holder.as_wtf8(), Type::BYTEA),
                (&claim.duration_ms.min(LONGEST_MS), Type::INT8),
                (&claim.is_reentrant, Type::BOOL),
                (&given_key, Type::BYTEA),
                (&given_lease, Type::UUID),
                (&claim.queue_ms.min(LONGEST_MS), Type::INT8),
                (id, Type::UUID),
                (&ticket.map(|ticket| ticket.0), Type::INT8),
                (&dead, Type::TEXT_ARRAY),
                (&process, Type::TEXT),
                (&server.clock.boot_id(), Type::TEXT),
                (&attempt.client, Type::UUID),
            ],
            attempt.deadline,
        )?;
        self.read(&rows)
    }

    /// Takes the claim back, whatever has become of it.
    pub(super) fn give_up(&self, server: &Server, attempt: &mut Attempt<'_>) -> Result<(), Failure> {
        server
            .function(
                attempt.session,
                "give_up_1",
                &[
                    (&locks(&self.keys), Type::INT8_ARRAY),
                    (&digests(&self.keys), Type::BYTEA_ARRAY),
                    (&self.lease_ids, Type::UUID_ARRAY),
                    (&self.id, Type::UUID),
                    (&attempt.client, Type::UUID),
                ],
                attempt.deadline,
            )
            .map(drop)
    }

    /// Notes in the book what was granted, asked for at `asked` by the boot clock.
    pub(super) fn note(&self, server: &Server, claimed: &Claimed, asked: i64) {
        let Claimed::Granted(leases) = claimed else { return };
        let deadline = asked.saturating_add(self.claim.duration_ms);
        for (key, lease) in self.keys.iter().zip(leases) {
            server.book.note(*key, &self.claim.holder, &lease.lease_id, deadline);
        }
        if let (Some((key, _)), Some((_, lease_id))) = (&self.given, &self.claim.instead_of) {
            server.book.strike(*key, &self.claim.holder, lease_id.as_deref());
        }
    }

    fn read(&self, rows: &[Row]) -> Result<Reply, Failure> {
        let row = only(rows)?;
        let claimed = match value::<&str>(row, "r_outcome")? {
            "granted" => Claimed::Granted(
                self.claim
                    .keys
                    .iter()
                    .zip(rows)
                    .map(|(key, row)| rows::lease(row, key.as_key(), value(row, "r_lease_id")?))
                    .collect::<Result<_, Failure>>()?,
            ),
            "nothing to give up" => Claimed::NothingToGiveUp,
            "refused" => {
                let position = usize::try_from(value::<i32>(row, "r_position")?).unwrap_or(0);
                let key = self.claim.keys.get(position.wrapping_sub(1));
                Claimed::Refused {
                    key: key.ok_or_else(|| rows::unexpected("a position beyond the keys"))?.clone(),
                    holder: text(row, "r_agent")?,
                    remaining_ms: (time_ms(row, "r_expires_at")? - time_ms(row, "r_now")?).max(0),
                    ticket: value::<Option<i64>>(row, "r_ticket")?.map(Ticket),
                }
            }
            other => return Err(rows::unexpected(other)),
        };
        let retry_ms = value::<Option<i64>>(row, "r_retry_ms")?.unwrap_or(0);
        Ok(Reply { claimed, retry_ms })
    }
}

/// Makes a claim; one that is refused because of the dead again, without them.
pub(super) fn claim(server: &Server, request: &Request, process: &str, wait: Wait<'_>) -> Result<Claimed> {
    let asked = server.clock.boot_ms();
    let answer =
        server.call(wait, |mut attempt| request.send(server, &mut attempt, None, &[], process))?.claimed;
    let answer = match answer {
        Claimed::Refused { ticket, .. } => {
            let dead = dead_in_the_way(server, request, process, wait)?;
            if dead.is_empty() {
                answer
            } else {
                server
                    .call(wait, |mut attempt| request.send(server, &mut attempt, ticket, &dead, process))?
                    .claimed
            }
        }
        answer => answer,
    };
    request.note(server, &answer, asked);
    Ok(answer)
}

/// The processes whose death would let a claim have its keys. Who is dead stays dead.
fn dead_in_the_way(server: &Server, request: &Request, process: &str, wait: Wait<'_>) -> Result<Vec<String>> {
    let Some(boot_id) = server.clock.boot_id() else { return Ok(Vec::new()) };
    let keys = digests(&request.keys);
    let mut processes: Vec<String> = server.call(wait, |attempt| {
        let rows = server.function(
            attempt.session,
            "in_the_way_1",
            &[
                (&keys, Type::BYTEA_ARRAY),
                (&boot_id, Type::TEXT),
                (&request.claim.takes_from_the_dead, Type::BOOL),
            ],
            attempt.deadline,
        )?;
        rows.iter().map(|row| value(row, "in_the_way_1")).collect()
    })?;
    processes.retain(|other| other != process && server.is_dead(other));
    Ok(processes)
}

/// The error of a claim whose lease to be given up is not the holder's.
pub(super) fn nothing_to_give_up(claim: &Claim) -> Error {
    let key = claim.instead_of.as_ref().map_or_else(|| claim.keys[0].clone(), |(key, _)| key.clone());
    let cause = "it is not held by this agent".to_owned();
    Error::LeaseLost { task: key.task, phase: key.phase, cause }
}

fn digests(keys: &[KeyId]) -> Vec<&[u8]> {
    keys.iter().map(|key| &key.digest[..]).collect()
}

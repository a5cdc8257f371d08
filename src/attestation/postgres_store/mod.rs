//! Attestations in a PostgreSQL database, for agents on several machines.
//!
//! The server keeps what each prompt was compared with; what that means, and how it is written, is judged here, as for
//! files. See `sql/`.

mod overview;
mod records;
mod transfer;

use std::sync::Arc;

use postgres_types::Type;
use uuid::Uuid;

pub use self::overview::Drifts;
use self::records::{compared, in_order};
use super::drift::Severity;
use super::record::DriftStats;
use super::spec::Optional;
use super::store::{Attestation, AttestationStore, BaselineUpdate, Prepared, count_attestations};
use crate::digest::short_digest;
use crate::durability::Durability;
use crate::error::Result;
use crate::gate::Guard;
use crate::lease::{Fence, FenceParameters, KeyId, LeaseKey};
use crate::location::Location;
use crate::patience::Patience;
use crate::postgres::rows::{count, text, unexpected, value};
use crate::postgres::{COMMON, Server, Upgrade};
use crate::text::Text;

const UPGRADE: Upgrade<'static> = Upgrade {
    part: "attestations",
    version: 1,
    sql: &[
        COMMON,
        include_str!("sql/tables.sql"),
        include_str!("sql/functions.sql"),
        include_str!("sql/import.sql"),
    ],
};

/// Attestations in a schema of a PostgreSQL database, 13 or later, which all who name the schema share.
///
/// Every call waits for the network, and fails with [`Error::DatabaseLocked`](crate::Error::DatabaseLocked) if it must
/// not. What was acknowledged survives what the server's `synchronous_commit` and `synchronous_standby_names` promise;
/// with [`Durability::PowerCut`] at least the end of the server.
pub struct PostgresAttestations {
    server: Arc<Server>,
    location: String,
}

impl PostgresAttestations {
    /// The attestations at `postgres://user:password@host:port/database?schema=driftlock&sslmode=verify-full`. Connects to
    /// nothing; the first call does, and makes or upgrades the schema.
    pub fn new(url: &str) -> Result<Self> {
        let server = Server::at(url, &UPGRADE)?;
        Ok(Self { location: server.address().to_string(), server })
    }

    fn key_id(&self, task: &Text, phase: &Text) -> KeyId {
        KeyId::of(LeaseKey { task, phase }, &self.server.address().schema)
    }

    fn try_attest(
        &self,
        fence: Option<&Fence>,
        prompts: &[&Prepared],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<Attestation>> {
        let server = &*self.server;
        let specs = || prompts.iter().map(|prompt| &prompt.spec);
        let texts = |of: fn(&super::PromptSpec) -> &Text| specs().map(|spec| of(spec).as_wtf8()).collect();
        let optional = |of: fn(&super::PromptSpec) -> &Optional| {
            specs().map(|spec| of(spec).text().map(Text::as_wtf8)).collect()
        };
        let ids: Vec<Uuid> = prompts.iter().map(|_| Uuid::now_v7()).collect();
        let digests: Vec<KeyId> = specs().map(|spec| self.key_id(&spec.task_id, &spec.phase)).collect();
        let keys: Vec<&[u8]> = digests.iter().map(|id| &id.digest[..]).collect();
        let order = in_order(&keys);
        let task_keys: Vec<i64> = specs().map(|spec| short_digest(spec.task_id.as_wtf8())).collect();
        let (tasks, phases): (Vec<&[u8]>, Vec<&[u8]>) =
            (texts(|spec| &spec.task_id), texts(|spec| &spec.phase));
        let hashes: Vec<&[u8]> = prompts.iter().map(|prompt| prompt.hash().as_bytes()).collect();
        let severities: Vec<&[u8]> =
            specs().map(|spec| Severity::of_drift_in(&spec.phase).as_str().as_bytes()).collect();
        let persona_hashes: Vec<Option<&[u8]>> = optional(|spec| &spec.persona_hash);
        let persona_summaries: Vec<Option<&[u8]>> = optional(|spec| &spec.persona_summary);
        let agent_types: Vec<Option<&[u8]>> = optional(|spec| &spec.agent_type);
        let model_versions: Vec<Option<&[u8]>> = optional(|spec| &spec.model_version);
        let is_synced = durability == Durability::PowerCut;
        let fence = FenceParameters::of(fence, &server.address().schema);
        let [lock, key, lease_id, token] = fence.parameters();
        server.call(&UPGRADE, patience, |attempt| {
            let rows = server.function(
                attempt.session,
                "attest_1",
                &[
                    (&ids, Type::UUID_ARRAY),
                    (&attempt.is_repeat, Type::BOOL),
                    (&order, Type::INT4_ARRAY),
                    (&keys, Type::BYTEA_ARRAY),
                    (&task_keys, Type::INT8_ARRAY),
                    (&tasks, Type::BYTEA_ARRAY),
                    (&phases, Type::BYTEA_ARRAY),
                    (&hashes, Type::BYTEA_ARRAY),
                    (&severities, Type::BYTEA_ARRAY),
                    (&persona_hashes, Type::BYTEA_ARRAY),
                    (&persona_summaries, Type::BYTEA_ARRAY),
                    (&agent_types, Type::BYTEA_ARRAY),
                    (&model_versions, Type::BYTEA_ARRAY),
                    (&attempt.client, Type::UUID),
                    (&is_synced, Type::BOOL),
                    lock.clone(),
                    key.clone(),
                    lease_id.clone(),
                    token.clone(),
                ],
                attempt.deadline,
            )?;
            if let [row] = &rows[..]
                && value::<&str>(row, "r_outcome")? == "fenced"
            {
                return fence.refusal(row).map(Err);
            }
            if rows.len() != prompts.len() {
                return Err(unexpected("answers are missing"));
            }
            prompts
                .iter()
                .zip(&rows)
                .map(|(prompt, row)| compared(prompt, row))
                .collect::<Result<_, _>>()
                .map(Ok)
        })?
    }
}

impl AttestationStore for PostgresAttestations {
    fn location(&self) -> Location<'_> {
        Location::Server(&self.location)
    }

    /// A call is one statement, which has to be done within a few seconds.
    fn largest_batch(&self) -> usize {
        256
    }

    fn initialize(&self, _: Durability, patience: Patience) -> Result<()> {
        self.server.call(&UPGRADE, patience, |_| Ok(()))
    }

    fn attest_through(
        &self,
        guard: Guard<'_>,
        prompts: &[&Prepared],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<Attestation>> {
        let answers = guard.pass(|fence| self.try_attest(fence, prompts, durability, patience))?;
        count_attestations(prompts, &answers);
        Ok(answers)
    }

    fn reset(
        &self,
        task: &Text,
        phase: &Text,
        hash: &Text,
        update: BaselineUpdate,
        durability: Durability,
        patience: Patience,
    ) -> Result<()> {
        let (server, request, id) = (&*self.server, Uuid::now_v7(), self.key_id(task, phase));
        let wtf8 = |text: &Option<Text>| text.as_ref().map(|text| text.as_wtf8().to_vec());
        let BaselineUpdate { updated_by, reason, version_tag, timestamp } = &update;
        let is_synced = durability == Durability::PowerCut;
        server.call(&UPGRADE, patience, |attempt| {
            let rows = server.function(
                attempt.session,
                "reset_1",
                &[
                    (&request, Type::UUID),
                    (&&id.digest[..], Type::BYTEA),
                    (&task.as_wtf8(), Type::BYTEA),
                    (&phase.as_wtf8(), Type::BYTEA),
                    (&hash.as_wtf8(), Type::BYTEA),
                    (&wtf8(timestamp), Type::BYTEA),
                    (&wtf8(updated_by), Type::BYTEA),
                    (&wtf8(reason), Type::BYTEA),
                    (&wtf8(version_tag), Type::BYTEA),
                    (&is_synced, Type::BOOL),
                ],
                attempt.deadline,
            );
            rows.map(drop)
        })
    }

    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>> {
        records::of_task(&self.server, task, patience)
    }

    fn stats(&self, patience: Patience) -> Result<DriftStats> {
        const SQL: &str = "SELECT severity AS r_severity, sum(records)::bigint AS r_records,
            sum(drifted)::bigint AS r_drifted FROM @schema@.attestation_counts GROUP BY severity";
        self.server.call(&UPGRADE, patience, |attempt| {
            let mut stats = DriftStats::default();
            for row in &self.server.statement(attempt.session, SQL, &[], attempt.deadline)? {
                let records = count(row, "r_records")?;
                stats.total_attestations += records;
                stats.drift_detections += count(row, "r_drifted")?;
                stats.severity_counts.insert(text(row, "r_severity")?, records);
            }
            Ok(stats)
        })
    }
}

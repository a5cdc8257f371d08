//! A fence that a function of the schema checks, in the transaction of what it guards.

use crate::postgres::Row;
use postgres_types::Type;
use uuid::Uuid;

use super::administration::{newest, refused};
use super::keys::KeyId;
use super::rows::{unexpected, value};
use super::uuid_of;
use crate::error::Error;
use crate::lease::claim::Fence;
use crate::postgres::{Failure, Parameter};

/// A fence as functions take it: its key's lock and digest, its lease and its token. Without a fence all are null.
pub(crate) struct FenceParameters<'a> {
    fence: Option<&'a Fence>,
    lock: Option<i64>,
    digest: Option<Vec<u8>>,
    lease_id: Option<Uuid>,
    token: Option<i64>,
}

impl<'a> FenceParameters<'a> {
    pub(crate) fn of(fence: Option<&'a Fence>, schema: &str) -> Self {
        let id = fence.map(|fence| KeyId::of(fence.key.as_key(), schema));
        Self {
            fence,
            lock: id.map(|id| id.lock),
            digest: id.map(|id| id.digest.to_vec()),
            lease_id: fence.map(|fence| uuid_of(&fence.lease_id)),
            token: fence.map(|fence| fence.token),
        }
    }

    pub(crate) fn parameters(&self) -> [Parameter<'_>; 4] {
        [
            (&self.lock, Type::INT8),
            (&self.digest, Type::BYTEA),
            (&self.lease_id, Type::UUID),
            (&self.token, Type::INT8),
        ]
    }

    /// The refusal that a row with the newest lease of the key, or with nulls if there is none, stands for.
    pub(crate) fn refusal(&self, row: &Row) -> Result<Error, Failure> {
        let fence = self.fence.ok_or_else(|| unexpected("fenced without a fence"))?;
        let newer = match value::<Option<Uuid>>(row, "r_lease_id")? {
            Some(_) => newest(row, fence)?,
            None => None,
        };
        Ok(refused(fence, newer.unwrap_or_else(|| "it was released".to_owned())))
    }
}

//! What stands for a key in the server.

use sha2::{Digest, Sha256};

use crate::digest::short_digest;
use crate::lease::claim::OwnedKey;
use crate::lease::model::LeaseKey;

/// A key's digest, which has one length whatever the key's is, and the number under which the key is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyId {
    pub(crate) digest: [u8; 32],
    pub(super) lock: i64,
}

impl KeyId {
    /// Those of two schemas in one database have different locks.
    pub(crate) fn of(key: LeaseKey<'_>, schema: &str) -> Self {
        let (task, phase) = (key.task.as_wtf8(), key.phase.as_wtf8());
        let mut hasher = Sha256::new();
        // With the length, or ("ab", "c") would be ("a", "bc").
        hasher.update(u64::try_from(task.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(task);
        hasher.update(phase);
        let digest: [u8; 32] = hasher.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let lock = i64::from_be_bytes(first) ^ short_digest(schema.as_bytes());
        Self { digest, lock }
    }

    pub(super) fn all(keys: &[OwnedKey], schema: &str) -> Vec<Self> {
        keys.iter().map(|key| Self::of(key.as_key(), schema)).collect()
    }
}

/// The locks, each once, in the order in which they are to be taken.
pub(super) fn locks<'a>(keys: impl IntoIterator<Item = &'a KeyId>) -> Vec<i64> {
    let mut locks: Vec<i64> = keys.into_iter().map(|key| key.lock).collect();
    locks.sort_unstable();
    locks.dedup();
    locks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Text;

    #[test]
    fn where_the_task_ends_makes_a_difference() {
        let id = |task: &str, phase: &str| {
            KeyId::of(LeaseKey { task: &Text::from(task), phase: &Text::from(phase) }, "driftlock")
        };
        assert_ne!(id("ab", "c").digest, id("a", "bc").digest);
        assert_eq!(id("a", "b"), id("a", "b"));
    }

    #[test]
    fn locks_are_sorted_and_each_there_once() {
        let key = |lock| KeyId { digest: [0; 32], lock };
        assert_eq!(locks(&[key(3), key(-1), key(3)]), [-1, 3]);
    }
}

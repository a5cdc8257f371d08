//! What this process provably holds.
//!
//! A call that asks whether it holds a lease can't wait for a network. It need not: nobody else is granted a lease before
//! its time is over by the server's clock, and that is not before the same time, counted from before the request was
//! sent, is over here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::keys::KeyId;
use crate::text::Text;

#[derive(Default)]
pub(super) struct Book(Mutex<HashMap<[u8; 32], Entry>>);

struct Entry {
    agent: Text,
    lease_id: String,
    /// By the boot clock, in milliseconds.
    deadline: i64,
}

impl Book {
    /// Notes a lease that ends for this process at `deadline`, by the boot clock.
    pub(super) fn note(&self, key: KeyId, agent: &Text, lease_id: &str, deadline: i64) {
        let entry = Entry { agent: agent.clone(), lease_id: lease_id.to_owned(), deadline };
        self.lock().insert(key.digest, entry);
    }

    /// Notes that a lease lasts longer, if it is still in the book.
    pub(super) fn prolong(&self, key: KeyId, lease_id: &str, deadline: i64) {
        if let Some(entry) = self.lock().get_mut(&key.digest).filter(|entry| entry.lease_id == lease_id) {
            entry.deadline = deadline;
        }
    }

    /// Takes out what the agent has by this key, or only this lease; its id.
    pub(super) fn strike(&self, key: KeyId, agent: &Text, lease_id: Option<&str>) -> Option<String> {
        let mut entries = self.lock();
        let is_meant =
            |entry: &Entry| entry.agent == *agent && lease_id.is_none_or(|id| id == entry.lease_id);
        if !entries.get(&key.digest).is_some_and(is_meant) {
            return None;
        }
        entries.remove(&key.digest).map(|entry| entry.lease_id)
    }

    /// Takes out a key's lease, whoever's it is.
    pub(super) fn strike_key(&self, key: KeyId) {
        self.lock().remove(&key.digest);
    }

    /// Takes out all that an agent has.
    pub(super) fn strike_all(&self, agent: &Text) {
        self.lock().retain(|_, entry| entry.agent != *agent);
    }

    /// Whether the agent's lease has some time left.
    pub(super) fn holds(&self, key: KeyId, agent: &Text, now: i64) -> bool {
        self.lock().get(&key.digest).is_some_and(|entry| entry.agent == *agent && entry.deadline > now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

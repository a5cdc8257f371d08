//! Asking for leases with a place in the queue, several at once, or in exchange for one that is held.

use super::model::{Acquisition, Lease, LeaseKey};
use super::store::LeaseTerms;
use crate::error::Result;
use crate::text::Text;

/// A key of one's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedKey {
    /// The task.
    pub task: Text,
    /// The phase of the task.
    pub phase: Text,
}

impl OwnedKey {
    /// The key, borrowed.
    #[must_use]
    pub fn as_key(&self) -> LeaseKey<'_> {
        LeaseKey { task: &self.task, phase: &self.phase }
    }
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub i64);

/// What is asked for: all of the keys, or none.
#[derive(Debug, Clone)]
pub struct Claim {
    /// At least one; no key twice.
    pub keys: Vec<OwnedKey>,
    /// Who asks.
    pub holder: Text,
    /// How long the leases are to last, in milliseconds from when they are granted; positive.
    pub duration_ms: i64,
    /// Whether leases of processes that are known to be dead are free.
    pub takes_from_the_dead: bool,
    /// Whether a lease that the holder has already is given to it again.
    pub is_reentrant: bool,
    /// A lease that is given up in the same step, by its key and, if given, its id; it must be the holder's.
    pub instead_of: Option<(OwnedKey, Option<String>)>,
    /// For how long to queue, in milliseconds from now, if the claim can't be granted; 0 not to.
    pub queue_ms: i64,
}

impl Claim {
    /// A claim of one key that does not wait, gives nothing up and takes nothing from the dead.
    #[must_use]
    pub fn plain(key: LeaseKey<'_>, terms: LeaseTerms<'_>) -> Self {
        Self {
            keys: vec![OwnedKey { task: key.task.clone(), phase: key.phase.clone() }],
            holder: terms.holder.clone(),
            duration_ms: terms.duration_ms,
            takes_from_the_dead: false,
            is_reentrant: false,
            instead_of: None,
            queue_ms: 0,
        }
    }

    /// What is asked for of each key.
    #[must_use]
    pub fn terms(&self) -> LeaseTerms<'_> {
        LeaseTerms { holder: &self.holder, duration_ms: self.duration_ms }
    }
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// All keys are the holder's, in their order.
    Granted(Vec<Lease>),
    /// What was to be given up is not the holder's. Nothing was changed.
    NothingToGiveUp,
    /// Somebody has one of the keys or is before the claim in its queue.
    Refused {
        /// The first such key.
        key: OwnedKey,
        /// Who that is.
        holder: Text,
        /// How long its lease still lasts if not renewed, in milliseconds; never negative.
        remaining_ms: i64,
        /// The claim's place in the queue, if it has one.
        ticket: Option<Ticket>,
    },
}

/// For a claim of one key that gives nothing up.
impl From<Claimed> for Acquisition {
    fn from(claimed: Claimed) -> Self {
        match claimed {
            Claimed::Granted(leases) if !leases.is_empty() => {
                Self::Acquired(leases.into_iter().next().unwrap_or_else(|| unreachable!("there is one")))
            }
            Claimed::Refused { holder, remaining_ms, .. } => Self::Held { holder, remaining_ms },
            Claimed::Granted(_) | Claimed::NothingToGiveUp => {
                Self::Held { holder: Text::default(), remaining_ms: 0 }
            }
        }
    }
}

/// What a queued claim got.
#[derive(Debug)]
pub struct Granted {
    /// The leases, in the order of the keys.
    pub leases: Vec<Lease>,
    /// When they were asked for, by the boot clock, in milliseconds: no later than they were granted.
    pub asked_boot_ms: i64,
}

/// Called once, with the leases or with why there are none.
pub type Answer = Box<dyn FnOnce(Result<Granted>) + Send>;

/// Proof of having held a lease: plain data, which can be passed to another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// What the lease is for.
    pub key: OwnedKey,
    /// The lease's fencing token.
    pub token: i64,
    /// The lease's id.
    pub lease_id: String,
}

/// A lease as those who operate the workspace see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedLease {
    /// The lease.
    pub lease: Lease,
    /// The process that acquired it or renewed it last, if it is known: its id and its host.
    pub process: Option<(u32, String)>,
    /// For how long it has been held, in milliseconds.
    pub held_ms: i64,
    /// How long it still lasts if not renewed, in milliseconds; 0 once it has expired.
    pub remaining_ms: i64,
    /// How many wait for it.
    pub waiters: u64,
}

/// Something that happened to a lease and that its holder didn't do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseEvent {
    /// Rises from event to event.
    pub id: i64,
    /// What happened.
    pub kind: EventKind,
    /// When: wall time, ISO 8601.
    pub at: String,
    /// The task.
    pub task_id: Text,
    /// The phase.
    pub phase: Text,
    /// Whose lease it was.
    pub agent_id: Text,
    /// The lease's fencing token, if it had one.
    pub fencing_token: Option<i64>,
    /// Who did it.
    pub by: Option<Text>,
    /// Why.
    pub reason: Option<Text>,
}

impl LeaseEvent {
    /// The end of a lease that nobody has taken over yet, which is recorded nowhere; its id is that of the last event.
    #[must_use]
    pub fn of_ended(id: i64, lease: Lease) -> Self {
        Self {
            id,
            kind: EventKind::Expiry,
            at: lease.expires_at,
            task_id: lease.task_id,
            phase: lease.phase,
            agent_id: lease.agent_id,
            fencing_token: Some(lease.fencing_token),
            by: None,
            reason: None,
        }
    }
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// An expired lease was taken over.
    Expiry,
    /// A dead process's lease was taken over before it expired.
    TakeOver,
    /// A lease was released by somebody else.
    ForcedRelease,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Expiry, Self::TakeOver, Self::ForcedRelease];

    /// Its name in the store and for JavaScript.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expiry => "expiry",
            Self::TakeOver => "takeover",
            Self::ForcedRelease => "forced-release",
        }
    }
}

//! The values that labels have. What is on no list is `other`: unbounded labels are the end of a Prometheus server.

use crate::text::Text;

/// A list of values that the code names.
macro_rules! closed_list {
    ($(#[$doc:meta])* $list:ident { $($(#[$about:meta])* $value:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list { $($(#[$about])* $value,)* }

        impl $list {
            /// Their names, in their order.
            pub const NAMES: &'static [&'static str] = &[$($name),*];
        }
    };
}

closed_list! {
    /// What became of a request for leases.
    Acquisition {
        /// Granted.
        Acquired = "acquired",
        /// Refused, at once or after a wait: somebody had the lease.
        Contended = "contended",
        /// The store failed, or is closed.
        Error = "error",
    }
}

closed_list! {
    /// What became of a renewal.
    Renewal {
        /// The lease lasts longer.
        Renewed = "renewed",
        /// Not held, or renewed as often as it may.
        Refused = "refused",
        /// The store failed, or is closed.
        Error = "error",
    }
}

closed_list! {
    /// Why a lease could be taken over.
    Takeover {
        /// It had expired.
        Expired = "expired",
        /// Its holder's process was dead.
        DeadHolder = "dead_holder",
    }
}

closed_list! {
    /// What became of an append.
    Append {
        /// It is written.
        Appended = "appended",
        /// It is not, or can't be said to be safe.
        Error = "error",
    }
}

closed_list! {
    /// What became of a request for a file lock.
    FileLock {
        /// Acquired.
        Acquired = "acquired",
        /// Somebody had it for longer than the caller wanted to wait.
        Timeout = "timeout",
        /// The file system refused, or the arguments can't be used.
        Error = "error",
    }
}

closed_list! {
    /// What has drifted.
    Dimension {
        /// The prompt.
        Prompt = "prompt",
        /// The persona.
        Persona = "persona",
    }
}

closed_list! {
    /// What is timed, from the call to its answer.
    Operation {
        /// `acquireLease`.
        Acquire = "acquire",
        /// `renewLease`.
        Renew = "renew",
        /// `releaseLease`, and `release` of a held lease.
        Release = "release",
        /// `releaseAllLeases`.
        ReleaseAll = "release_all",
        /// `advanceLease`.
        Advance = "advance",
        /// `hold`, `holdMany` and `advance` of a held lease, with the wait.
        Hold = "hold",
        /// `forceRelease`.
        ForceRelease = "force_release",
        /// `checkFence`.
        CheckFence = "check_fence",
        /// `fencedWriteFile`.
        FencedWrite = "fenced_write",
        /// `holdsLeaseAsync`, `getLeaseAsync` and `getCurrentPhase`.
        LookUp = "look_up",
        /// `listLeases` and `listLeaseEvents`.
        List = "list",
        /// `attest`.
        Attest = "attest",
        /// `resetBaseline`.
        ResetBaseline = "reset_baseline",
        /// `appendTransition`.
        Append = "append",
        /// `getAttestationHistory` and `getTaskHistory`.
        History = "history",
        /// `getStats`, `getDriftStats` and `health`.
        Stats = "stats",
        /// `verify`.
        Verify = "verify",
        /// `recordCounter`.
        RecordCounter = "record_counter",
        /// `initialize` and `exists`.
        Initialize = "initialize",
    }
}

/// The phases of a task.
pub const PHASES: &[&str] = &[
    "STRATEGIZE",
    "SPEC",
    "PLAN",
    "AFP_ALIGNMENT",
    "THINK",
    "IMPLEMENT",
    "VERIFY",
    "REVIEW",
    "PR",
    "MONITOR",
    "other",
];

/// How much a drift matters. Some of them only old records have.
pub const SEVERITIES: &[&str] = &["none", "low", "medium", "high", "unknown", "other"];

/// What errors are called.
pub const CODES: &[&str] = &[
    "INVALID_ARGUMENT",
    "IO",
    "DATABASE_LOCKED",
    "DATABASE",
    "CLOSED",
    "JOURNAL_LOCKED",
    "LEASE_HELD",
    "CANCELLED",
    "LEASE_LOST",
    "FENCED",
    "LOCK_NOT_ACQUIRED",
    "NETWORK_FILE_SYSTEM",
    "DEFECT",
    "other",
];

/// The position of a phase in its list.
pub(super) fn phase(phase: &Text) -> usize {
    position(PHASES, phase.as_str().unwrap_or_default())
}

/// The position of a severity in its list.
pub(super) fn severity(severity: &str) -> usize {
    position(SEVERITIES, severity)
}

/// The position of an error's code in its list.
pub(super) fn code(code: &str) -> usize {
    position(CODES, code)
}

/// Where a name is; whatever is on no list counts as the last one, `other`.
fn position(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len() - 1)
}

//! How long a lease in the table lasts, and lasted.
//!
//! A row that this library wrote is judged by boot time, which nobody can set: it has expired if the machine has
//! been started anew since, or if the boot clock has passed the row's deadline. `expires_at` says the same as wall
//! time, for readers.
//!
//! Old programs know only `expires_at`. A row that they inserted has no boot id, and one that they renewed has
//! another `expires_at` than the one that goes with its deadline (`expires_wall_ms`): both are judged by wall time.
//! So are all rows where the system doesn't name its boots. An `expires_at` that is no time counts as expired: it
//! can't be shown to last, and treated as lasting it would block its key for good.

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::clock::{Clock, iso_timestamp, parse_timestamp};

/// The columns that [`Term::read`] reads, in its order.
macro_rules! term_columns {
    () => {
        term_columns!("")
    };
    // Of a table with this prefix.
    ($table:literal) => {
        concat!(
            $table,
            "acquired_at, ",
            $table,
            "expires_at, ",
            $table,
            "boot_id, ",
            $table,
            "acquired_boot_ms, ",
            $table,
            "deadline_boot_ms, ",
            $table,
            "expires_wall_ms"
        )
    };
}
pub(super) use term_columns;

/// The present, by both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) wall_ms: i64,
    pub(super) boot_ms: i64,
    pub(super) boot_id: Option<&'a str>,
}

impl<'a> Now<'a> {
    pub(super) fn of(clock: &'a dyn Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), boot_ms: clock.boot_ms(), boot_id: clock.boot_id() }
    }
}

/// When a lease was acquired and when it expires, as its row has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term<'r> {
    acquired_at: Option<&'r str>,
    expires_at: Option<&'r str>,
    boot_id: Option<&'r str>,
    acquired_boot_ms: Option<i64>,
    deadline_boot_ms: Option<i64>,
    expires_wall_ms: Option<i64>,
}

impl<'r> Term<'r> {
    /// Reads the [`term_columns`] that start at column `first`.
    pub(super) fn read(row: &'r Row<'_>, first: usize) -> rusqlite::Result<Self> {
        Ok(Self {
            acquired_at: text(row.get_ref(first)?),
            expires_at: text(row.get_ref(first + 1)?),
            boot_id: text(row.get_ref(first + 2)?),
            acquired_boot_ms: integer(row.get_ref(first + 3)?),
            deadline_boot_ms: integer(row.get_ref(first + 4)?),
            expires_wall_ms: integer(row.get_ref(first + 5)?),
        })
    }

    /// Milliseconds until the expiry; 0 or less once it has expired.
    pub(super) fn remaining_ms(&self, now: Now<'_>) -> i64 {
        match (self.boot_deadline(), now.boot_id) {
            (Some((boot_id, deadline)), Some(present)) if boot_id == present => {
                deadline.saturating_sub(now.boot_ms)
            }
            (Some(_), Some(_)) => 0,
            _ => self.expires_wall().map_or(0, |expires| expires.saturating_sub(now.wall_ms)),
        }
    }

    /// For how many milliseconds at least it has been expired; `None` where that can't be told.
    pub(super) fn expired_for_ms(&self, now: Now<'_>) -> Option<i64> {
        match (self.boot_deadline(), now.boot_id) {
            (Some((boot_id, deadline)), Some(present)) if boot_id == present => {
                Some(now.boot_ms.saturating_sub(deadline))
            }
            // It ended with its boot, so before this one began.
            (Some(_), Some(_)) => Some(now.boot_ms),
            _ => Some(now.wall_ms.saturating_sub(self.expires_wall()?)),
        }
    }

    /// How long it has been held until now, in milliseconds; never negative.
    pub(super) fn held_ms(&self, now: Now<'_>) -> i64 {
        let held = match (self.boot_id, now.boot_id, self.acquired_boot_ms) {
            (Some(boot_id), Some(present), Some(acquired)) if boot_id == present => {
                now.boot_ms.saturating_sub(acquired)
            }
            _ => self.acquired_wall().map_or(0, |acquired| now.wall_ms.saturating_sub(acquired)),
        };
        held.max(0)
    }

    /// How long it was held if it ended with its expiry, in milliseconds; never negative.
    pub(super) fn held_until_expiry_ms(&self) -> i64 {
        let held = match (self.boot_deadline(), self.acquired_boot_ms) {
            (Some((_, deadline)), Some(acquired)) => deadline.saturating_sub(acquired),
            _ => match (self.acquired_wall(), self.expires_wall()) {
                (Some(acquired), Some(expires)) => expires.saturating_sub(acquired),
                _ => 0,
            },
        };
        held.max(0)
    }

    /// Whether the row's `process` is the one that has set its expiry last. Old code renews without a word about who.
    pub(super) fn is_of_its_process(&self) -> bool {
        self.expires_wall_ms.is_some() && self.expires_wall() == self.expires_wall_ms
    }

    /// The boot and the time of it at which the lease expires, unless an old program has set another expiry.
    fn boot_deadline(&self) -> Option<(&'r str, i64)> {
        let (boot_id, deadline, wall) = (self.boot_id?, self.deadline_boot_ms?, self.expires_wall_ms?);
        (self.expires_wall() == Some(wall)).then_some((boot_id, deadline))
    }

    fn expires_wall(&self) -> Option<i64> {
        self.expires_at.and_then(parse_timestamp)
    }

    fn acquired_wall(&self) -> Option<i64> {
        self.acquired_at.and_then(parse_timestamp)
    }
}

/// The columns of a lease that is granted or extended now.
#[derive(Debug)]
pub(super) struct NewTerm {
    pub(super) expires_at: String,
    pub(super) expires_wall_ms: i64,
    pub(super) deadline_boot_ms: i64,
}

impl NewTerm {
    pub(super) fn starting(now: Now<'_>, duration_ms: i64) -> Self {
        let expires_at = iso_timestamp(now.wall_ms.saturating_add(duration_ms));
        // As it is read back: a time too far off to be written is written as the last one there is.
        let expires_wall_ms = parse_timestamp(&expires_at).unwrap_or(i64::MAX);
        Self { expires_at, expires_wall_ms, deadline_boot_ms: now.boot_ms.saturating_add(duration_ms) }
    }
}

fn text(value: ValueRef<'_>) -> Option<&str> {
    match value {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn integer(value: ValueRef<'_>) -> Option<i64> {
    match value {
        ValueRef::Integer(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn ours<'r>(expires_at: &'r str, acquired_at: &'r str) -> Term<'r> {
        Term {
            acquired_at: Some(acquired_at),
            expires_at: Some(expires_at),
            boot_id: Some("a"),
            acquired_boot_ms: Some(1_000),
            deadline_boot_ms: Some(6_000),
            expires_wall_ms: Some(105_000),
        }
    }

    fn at(wall_ms: i64, boot_ms: i64, boot_id: Option<&str>) -> Now<'_> {
        Now { wall_ms, boot_ms, boot_id }
    }

    #[test]
    fn a_row_of_ours_is_judged_by_boot_time() {
        let (expires, acquired) = (iso_timestamp(105_000), iso_timestamp(100_000));
        let term = ours(&expires, &acquired);
        assert_eq!(term.remaining_ms(at(0, 5_999, Some("a"))), 1);
        assert_eq!(term.remaining_ms(at(0, 6_000, Some("a"))), 0);
        assert_eq!(term.held_ms(at(0, 4_000, Some("a"))), 3_000);
        assert_eq!(term.held_until_expiry_ms(), 5_000);
        assert_eq!(term.expired_for_ms(at(0, 6_000 + HOUR, Some("a"))), Some(HOUR));
    }

    #[test]
    fn another_boot_ends_it() {
        let (expires, acquired) = (iso_timestamp(105_000), iso_timestamp(100_000));
        let term = ours(&expires, &acquired);
        assert_eq!(term.remaining_ms(at(101_000, 2_000, Some("b"))), 0);
        assert_eq!(term.expired_for_ms(at(101_000, 2_000, Some("b"))), Some(2_000));
        assert_eq!(term.held_ms(at(103_000, 2_000, Some("b"))), 3_000);
    }

    #[test]
    fn wall_time_counts_for_rows_that_old_code_wrote_and_where_boots_have_no_name() {
        let (expires, acquired) = (iso_timestamp(109_000), iso_timestamp(100_000));
        let renewed_by_old_code = ours(&expires, &acquired);
        assert_eq!(renewed_by_old_code.remaining_ms(at(104_000, 99_000, Some("a"))), 5_000);
        assert_eq!(renewed_by_old_code.held_until_expiry_ms(), 9_000);
        assert!(!renewed_by_old_code.is_of_its_process());
        let expires = iso_timestamp(105_000);
        assert_eq!(ours(&expires, &acquired).remaining_ms(at(104_000, 99_000, None)), 1_000);
        let inserted_by_old_code = Term { boot_id: None, ..ours(&expires, &acquired) };
        assert_eq!(inserted_by_old_code.remaining_ms(at(104_000, 99_000, Some("a"))), 1_000);
    }

    #[test]
    fn an_expiry_that_is_no_time_is_over_and_of_unknown_age() {
        let term = Term { expires_at: Some("soon"), ..ours("", "") };
        assert_eq!(term.remaining_ms(at(0, 0, Some("a"))), 0);
        assert_eq!(term.expired_for_ms(at(0, 0, Some("a"))), None);
        assert_eq!(term.held_until_expiry_ms(), 0);
    }

    #[test]
    fn a_term_without_end_is_still_judged_by_boot_time() {
        let new = NewTerm::starting(at(1_000, 1_000, Some("a")), i64::MAX);
        assert_eq!(new.deadline_boot_ms, i64::MAX);
        assert_eq!(parse_timestamp(&new.expires_at), Some(new.expires_wall_ms));
    }
}

//! What has happened to the leases of a workspace and how they stand, for those who watch it.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use super::database_path;
use super::schema::Schema;
use super::statistics::{self, Pending};
use super::term::{Now, Term, term_columns};
use super::upkeep::Upkeep;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::lease::model::LeaseTotals;
use crate::patience::Patience;
use crate::sqlite::{Failure, Preparation, look_into};

/// The totals of a workspace, whether or not this process has a manager there; `None` if no manager of this version has
/// opened its database yet. Makes and upgrades nothing.
pub fn totals_of(workspace: &Path, clock: &dyn Clock, patience: Patience) -> Result<Option<LeaseTotals>> {
    let path = database_path(workspace)?;
    if !path.exists() {
        return Ok(None);
    }
    let now = Now::of(clock);
    let mut backoff = Backoff::default();
    loop {
        let database = look_into(&path)?;
        let upkeep = database.attached::<Upkeep>();
        // The writer's, so that each event is seen either in the table or among what is pending.
        let read = database.writer().map_err(|_| Failure::Busy).and_then(|writer| {
            let is_ours = Schema { boot_id: now.boot_id }.is_done(&writer)?;
            let pending = upkeep.as_ref().map(|upkeep| &upkeep.pending);
            is_ours.then(|| read(&writer, pending, now)).transpose()
        });
        match (read, patience) {
            (Err(Failure::Busy), Patience::Until(deadline)) if Instant::now() < deadline => {
                std::thread::sleep(backoff.next_wait());
            }
            (Err(Failure::Busy), _) => return Err(Error::DatabaseLocked),
            (read, _) => return read.map_err(|failure| failure.at(&path)),
        }
    }
}

/// Reads the totals, with the writer held.
pub(super) fn read(
    writer: &Connection,
    pending: Option<&Pending>,
    now: Now<'_>,
) -> Result<LeaseTotals, Failure> {
    let figures = statistics::stored(writer)?.plus(pending.map(Pending::figures).unwrap_or_default());
    let mut totals = LeaseTotals::from(figures);
    let mut statement = writer.prepare_cached(concat!("SELECT ", term_columns!(), " FROM phase_leases"))?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let term = Term::read(row, 0)?;
        if term.remaining_ms(now) > 0 {
            totals.active += 1;
            totals.oldest_age_ms = totals.oldest_age_ms.max(term.held_ms(now));
        } else {
            totals.expired += 1;
        }
    }
    let waiters: i64 = writer
        .prepare_cached(
            "SELECT count(DISTINCT ticket) FROM phase_lease_waiters WHERE boot_id IS ?1 AND until_boot_ms > ?2",
        )?
        .query_row((now.boot_id, now.boot_ms), |row| row.get(0))?;
    totals.waiters = waiters.try_into().unwrap_or(0);
    Ok(totals)
}

//! Figures about all leases, and what is done for the store in the background.
//!
//! Finished holds, take-overs and forced releases are counted by the server, with what makes them. The rest would make a
//! read a write, or a write two: each process adds it up, and stores its totals now and then. A process that is killed
//! takes at most the last half second of them with it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use postgres_types::Type;

use super::rows::{count as number, only, value};
use super::server::Server;
use super::tally::{Count, NAMES};
use crate::error::{Error, Result};
use crate::lease::model::{LeaseStats, LeaseTotals};
use crate::lease::patience::Wait;
use crate::runtime::runtime;

/// How long figures may stay in memory.
const STORE_INTERVAL: Duration = Duration::from_millis(500);
/// When what is long over is looked for first, and how often after that.
const SWEEPS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// How long the background waits for the server.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts something that the server doesn't; it is stored within half a second.
pub(super) fn count(server: &Arc<Server>, what: Count, times: u64) {
    server.tally.add(what, times);
    if server.tally.schedule() {
        let server = Arc::clone(server);
        runtime().spawn(async move {
            tokio::time::sleep(STORE_INTERVAL).await;
            runtime().spawn_blocking(move || {
                server.tally.is_due();
                store(&server, PATIENCE);
            });
        });
    }
}

/// Stores this process's totals, if they have changed. A failure leaves them for the next time.
pub(super) fn store(server: &Server, patience: Duration) {
    let Some((source, counts)) = server.tally.unstored() else { return };
    // All that there is, also what is as it was: what has not been stored for a day is added up.
    let (names, values): (Vec<&str>, Vec<i64>) = NAMES
        .iter()
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (*name, i64::try_from(count).unwrap_or(i64::MAX)))
        .unzip();
    let deadline = Instant::now() + patience;
    let stored = server.pool.repeat(
        || deadline,
        || Ok(()),
        |attempt| {
            let parameters = &[
                (&source as _, Type::UUID),
                (&names as _, Type::TEXT_ARRAY),
                (&values as _, Type::INT8_ARRAY),
            ];
            server.function(attempt.session, "store_figures_1", parameters, attempt.deadline).map(drop)
        },
    );
    if stored.is_ok() {
        server.tally.stored(counts);
    }
}

/// Figures about the leases of all agents.
pub(super) fn stats(server: &Server, wait: Wait<'_>) -> Result<LeaseStats> {
    const SQL: &str = "SELECT leases.*, holds.*, counted.* FROM
        (SELECT count(*) AS r_total, count(*) FILTER (WHERE expires_at > now.now) AS r_active,
           coalesce(max(renewed_count), 0) AS r_renewals
         FROM (SELECT @schema@.now_1() AS now OFFSET 0) AS now, @schema@.leases) AS leases,
        (SELECT coalesce(sum(finished_holds), 0)::bigint AS r_holds,
           coalesce(sum(finished_hold_ms), 0)::float8 AS r_hold_ms FROM @schema@.sessions) AS holds,
        (SELECT coalesce(sum(value), 0)::bigint AS r_refusals FROM @schema@.figures
         WHERE name = 'contention_events' AND source <> $1) AS counted";
    let (source, own) = server.tally.own();
    server.call(wait, |attempt| {
        let rows = server.statement(attempt.session, SQL, &[(&source, Type::UUID)], attempt.deadline)?;
        let row = only(&rows)?;
        let (total, active, holds) =
            (number(row, "r_total")?, number(row, "r_active")?, value::<i64>(row, "r_holds")?);
        #[expect(
            clippy::cast_precision_loss,
            reason = "an average over more than 2^53 holds may be off by one"
        )]
        let average_ms = if holds == 0 { 0.0 } else { value::<f64>(row, "r_hold_ms")? / holds as f64 };
        Ok(LeaseStats {
            total_leases: total,
            active_leases: active,
            expired_leases: total - active,
            average_hold_time_s: average_ms / 1000.0,
            max_renewals: number(row, "r_renewals")?,
            contention_events: number(row, "r_refusals")? + own[Count::Contention as usize],
        })
    })
}

/// What has happened since the schema was made, and how leases stand.
pub(super) fn totals(server: &Server, wait: Wait<'_>) -> Result<LeaseTotals> {
    const SQL: &str = "SELECT leases.*, holds.*, happened.*, counted.*,
        (SELECT count(DISTINCT ticket) FROM @schema@.waiters WHERE until_at > @schema@.now_1()) AS r_waiters FROM
        (SELECT count(*) FILTER (WHERE expires_at > now.now) AS r_active, count(key) AS r_total,
           coalesce(@schema@.milliseconds_1(min(acquired_at) FILTER (WHERE expires_at > now.now), now.now), 0) AS r_oldest_ms
         FROM (SELECT @schema@.now_1() AS now OFFSET 0) AS now LEFT JOIN @schema@.leases ON true GROUP BY now.now) AS leases,
        (SELECT coalesce(sum(finished_holds), 0)::bigint AS r_holds,
           coalesce(sum(finished_hold_ms), 0)::bigint AS r_hold_ms FROM @schema@.sessions) AS holds,
        (SELECT coalesce(sum(value) FILTER (WHERE name = 'expiry'), 0)::bigint AS r_expiries,
           coalesce(sum(value) FILTER (WHERE name = 'takeover'), 0)::bigint AS r_takeovers,
           coalesce(sum(value) FILTER (WHERE name = 'forced-release'), 0)::bigint AS r_forced
         FROM @schema@.figures) AS happened,
        (SELECT array(SELECT (SELECT coalesce(sum(value), 0)::bigint FROM @schema@.figures AS f
           WHERE f.name = n.name AND f.source <> $1) FROM unnest($2::text[]) WITH ORDINALITY AS n (name, i) ORDER BY n.i)
         AS r_counts) AS counted";
    let (source, own) = server.tally.own();
    server.call(wait, |attempt| {
        let parameters = &[(&source as _, Type::UUID), (&&NAMES[..] as _, Type::TEXT_ARRAY)];
        let rows = server.statement(attempt.session, SQL, parameters, attempt.deadline)?;
        let row = only(&rows)?;
        let others: Vec<i64> = value(row, "r_counts")?;
        let counted = |count: Count| {
            let others = others.get(count as usize).copied().unwrap_or(0);
            own[count as usize] + u64::try_from(others).unwrap_or(0)
        };
        let active = number(row, "r_active")?;
        Ok(LeaseTotals {
            acquired: counted(Count::Acquired),
            contended: counted(Count::Contention),
            acquire_errors: counted(Count::AcquireErrors),
            renewed: counted(Count::Renewed),
            renewals_refused: counted(Count::RenewalsRefused),
            renewal_errors: counted(Count::RenewalErrors),
            takeovers_expired: number(row, "r_expiries")?,
            takeovers_dead_holder: number(row, "r_takeovers")?,
            forced_releases: number(row, "r_forced")?,
            finished_holds: number(row, "r_holds")?,
            finished_hold_ms: number(row, "r_hold_ms")?,
            active,
            expired: number(row, "r_total")?.saturating_sub(active),
            oldest_age_ms: value(row, "r_oldest_ms")?,
            waiters: number(row, "r_waiters")?,
        })
    })
}

/// Sees to it that what is long over is swept now and then, while the store is in use.
pub(super) fn keep(server: &Arc<Server>) {
    if server.tally.keep() {
        let server = Arc::downgrade(server);
        runtime().spawn(async move {
            tokio::time::sleep(SWEEPS.0).await;
            while server.strong_count() > 0 {
                let server = Weak::clone(&server);
                let _ = runtime().spawn_blocking(move || server.upgrade().map(|server| sweep(&server))).await;
                tokio::time::sleep(SWEEPS.1).await;
            }
        });
    }
}

/// Removes what is long over. Where nobody has made a call yet there may be nothing to be swept.
pub(super) fn sweep(server: &Server) -> Result<()> {
    if !server.is_ready() {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    server.pool.repeat(
        || deadline,
        || Ok::<_, Error>(()),
        |attempt| server.function(attempt.session, "sweep_1", &[], attempt.deadline).map(drop),
    )
}

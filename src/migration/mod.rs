//! Moving a workspace from files to a server, or back: leases, baselines, attestations and their resets, the ledger.
//!
//! What the target has must be a beginning of what the source has: nothing, or what an earlier run has copied. So a run that
//! was ended goes on where it ended, one more run copies what has come since, and a target that somebody uses already is
//! left alone. Lines are copied as they are, byte for byte; a line that is damaged is left out of the attestations, and
//! keeps the ledger from being copied.
//!
//! Nobody is kept from using the source meanwhile. Once all agents are stopped a last run copies the rest; leases that are
//! held then are still held by the same agents in the new place, and no fencing token comes again there.

mod files;
mod lines;
mod server;
#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use self::files::Files;
use self::lines::{Lines, Summary};
use self::server::OnServer;
use crate::attestation::salvage::Baselines;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::lease::{Closing, LeaseStore, ListedLease, OwnedKey, Wait};
use crate::ledger::LedgerStore;
use crate::patience::Patience;
use crate::postgres::Address;

/// How long a call may wait for others.
const PATIENCE: Duration = Duration::from_secs(10);

/// A place that a workspace's state is in.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// Files and a database below this folder.
    Workspace(&'a Path),
    /// A schema at this URL.
    Server(&'a str),
}

impl Place<'_> {
    /// Where it is, without credentials. Fails if it is no place.
    pub fn shown(self) -> Result<String> {
        Ok(match self {
            Self::Workspace(root) => root.display().to_string(),
            Self::Server(url) => Address::parse(url)?.to_string(),
        })
    }
}

/// How many there are of something, and how many of them were copied by this run, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Part {
    /// How many the source has.
    pub total: u64,
    /// How many the target did not have.
    pub copied: u64,
}

/// What a migration did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Entries of the ledger.
    pub entries: Part,
    /// Attestations.
    pub attestations: Part,
    /// Resets of baselines.
    pub resets: Part,
    /// Baselines.
    pub baselines: Part,
    /// Leases that have not expired.
    pub leases: Part,
    /// Damaged lines of the attestations and resets, which are left out.
    pub left_out: u64,
}

/// How far copying is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is copied.
    pub what: &'static str,
    /// How many this run has copied.
    pub copied: u64,
    /// How many it has to copy.
    pub of: u64,
}

/// One side of a migration.
trait Side {
    /// Where it is, for messages.
    fn shown(&self) -> String;
    fn ledger(&self) -> &dyn LedgerStore;
    fn entries(&self) -> Box<dyn Lines + '_>;
    fn attestations(&self) -> Box<dyn Lines + '_>;
    fn resets(&self) -> Box<dyn Lines + '_>;
    /// By `taskId:phase`.
    fn baselines(&self) -> Result<Baselines>;
    fn put_baselines(&self, baselines: &Baselines) -> Result<()>;
    /// `None` where there are none, and nothing is to be made for them.
    fn leases(&self, is_target: bool) -> Result<Option<Box<dyn LeaseStore>>>;
}

/// Copies what the source has and the target has not, and looks whether both have the same then.
///
/// A dry run only says what would be copied. `tell` hears how far it is, after each few lines. Fails with
/// [`Error::NotMigrated`] if the target has anything that the source has not, before anything is written.
pub fn migrate(
    source: Place<'_>,
    target: Place<'_>,
    clock: &Arc<dyn Clock>,
    is_dry_run: bool,
    tell: &dyn Fn(Progress),
) -> Result<Report> {
    let (from, to) = (side(source, clock)?, side(target, clock)?);
    Migration { from: &*from, to: &*to, tell }.run(is_dry_run)
}

fn side(place: Place<'_>, clock: &Arc<dyn Clock>) -> Result<Box<dyn Side>> {
    Ok(match place {
        Place::Workspace(root) => Box::new(Files::new(root, clock)),
        Place::Server(url) => Box::new(OnServer::new(url, clock)?),
    })
}

struct Migration<'a> {
    from: &'a dyn Side,
    to: &'a dyn Side,
    tell: &'a dyn Fn(Progress),
}

/// What both sides have of something that is kept in lines.
struct Compared {
    source: Summary,
    target: Summary,
}

impl Compared {
    fn part(&self) -> Part {
        Part { total: self.source.count, copied: self.source.count - self.target.count }
    }
}

/// What both sides have of leases.
#[derive(Default)]
struct Leases {
    /// Those of the source that have not expired.
    live: BTreeMap<OwnedKey, ListedLease>,
    highest_token: i64,
    missing: Vec<ListedLease>,
}

impl Leases {
    /// Whether there never were any. Those of programs of before have no tokens.
    fn are_none(&self) -> bool {
        self.highest_token == 0 && self.live.is_empty()
    }
}

impl Migration<'_> {
    fn run(&self, is_dry_run: bool) -> Result<Report> {
        let (from, to) = (self.from, self.to);
        let entries = self.compared(&*from.entries(), &*to.entries(), "the ledger")?;
        // What is damaged is no line, and breaks the chain all the same.
        if entries.target.damaged > 0 {
            return Err(self.in_use("the ledger"));
        }
        if !is_whole(from, &entries.source)? {
            return Err(
                self.not("the source's ledger is not whole; verify it, and settle what is to become of it")
            );
        }
        let attestations = self.compared(&*from.attestations(), &*to.attestations(), "attestations")?;
        let resets = self.compared(&*from.resets(), &*to.resets(), "resets of baselines")?;
        let (baselines, missing) = self.compared_baselines()?;
        let leases = self.compared_leases()?;
        let report = Report {
            entries: entries.part(),
            attestations: attestations.part(),
            resets: resets.part(),
            baselines: Part { total: baselines.len() as u64, copied: missing.len() as u64 },
            leases: Part { total: leases.live.len() as u64, copied: leases.missing.len() as u64 },
            left_out: attestations.source.damaged + resets.source.damaged,
        };
        if is_dry_run {
            return Ok(report);
        }
        self.copy(&*from.attestations(), &*to.attestations(), &attestations, "attestations")?;
        self.copy(&*from.resets(), &*to.resets(), &resets, "resets of baselines")?;
        to.put_baselines(&missing)?;
        self.copy(&*from.entries(), &*to.entries(), &entries, "ledger entries")?;
        self.put_leases(&leases)?;
        self.verify(&entries, &attestations, &resets, &baselines, &leases)?;
        Ok(report)
    }

    fn copy(
        &self,
        source: &dyn Lines,
        target: &dyn Lines,
        compared: &Compared,
        what: &'static str,
    ) -> Result<()> {
        let Compared { source: all, target: present } = compared;
        let mut progress = Progress { what, copied: 0, of: compared.part().copied };
        if progress.of == 0 {
            return Ok(());
        }
        target.append(present.count, &mut |append| {
            let mut append_and_tell = |lines: &[Vec<u8>]| {
                append(lines)?;
                progress.copied += lines.len() as u64;
                (self.tell)(progress);
                Ok(())
            };
            source.read(present.count, all.count, &mut append_and_tell).map(drop)
        })
    }

    /// Fails if what the target has is not a beginning of what the source has.
    fn compared(&self, source: &dyn Lines, target: &dyn Lines, what: &str) -> Result<Compared> {
        let target = Summary::of(target, u64::MAX)?;
        let (beginning, source) = Summary::of_both(source, target.count)?;
        if beginning.digest != target.digest {
            return Err(self.in_use(what));
        }
        Ok(Compared { source, target })
    }

    /// The source's baselines, and those that the target lacks.
    fn compared_baselines(&self) -> Result<(Baselines, Baselines)> {
        let (source, target) = (self.from.baselines()?, self.to.baselines()?);
        if target.keys().any(|key| !source.contains_key(key)) {
            return Err(self.in_use("baselines"));
        }
        let is_missing = |(key, baseline): &(_, _)| target.get(*key) != Some(*baseline);
        let missing = source.iter().filter(is_missing).map(|(key, baseline)| (key.clone(), baseline.clone()));
        let missing = missing.collect();
        Ok((source, missing))
    }

    fn compared_leases(&self) -> Result<Leases> {
        let (Some(source), target) = (self.from.leases(false)?, self.to.leases(false)?) else {
            return Ok(Leases::default());
        };
        let (closing, patience) = (Closing::default(), Patience::lasting(PATIENCE));
        let live = live(&*source, Wait::new(patience, &closing))?;
        let present = match target {
            Some(target) => live_and_expired(&*target, Wait::new(patience, &closing))?,
            None => BTreeMap::new(),
        };
        let mut missing = Vec::new();
        for (key, lease) in &live {
            match present.get(key) {
                None => missing.push(lease.clone()),
                Some(other) if other.lease.lease_id == lease.lease.lease_id => {}
                Some(_) => return Err(self.in_use("leases")),
            }
        }
        let highest_token = source.highest_token(Wait::new(patience, &closing))?;
        Ok(Leases { live, highest_token, missing })
    }

    fn put_leases(&self, leases: &Leases) -> Result<()> {
        if leases.are_none() {
            return Ok(());
        }
        let Some(target) = self.to.leases(true)? else { return Ok(()) };
        let closing = Closing::default();
        let wait = Wait::new(Patience::lasting(PATIENCE), &closing);
        target.take_in(&leases.missing, leases.highest_token, wait)
    }

    /// Fails unless the target has now what the source had.
    fn verify(
        &self,
        entries: &Compared,
        attestations: &Compared,
        resets: &Compared,
        baselines: &Baselines,
        leases: &Leases,
    ) -> Result<()> {
        let to = self.to;
        for (lines, compared, what) in [
            (to.entries(), entries, "the ledger"),
            (to.attestations(), attestations, "attestations"),
            (to.resets(), resets, "resets of baselines"),
        ] {
            // To what was not added to nobody looks again: it may be large.
            let found = if compared.part().copied == 0 {
                compared.target.clone()
            } else {
                Summary::of(&*lines, u64::MAX)?
            };
            // Of the ledger the source's chain was verified, and the same lines are the same chain.
            if (found.count, found.digest) != (compared.source.count, compared.source.digest) {
                return Err(self.differs(what));
            }
        }
        if to.baselines()? != *baselines {
            return Err(self.differs("baselines"));
        }
        if !leases.are_none() {
            let Some(target) = to.leases(true)? else { return Err(self.differs("leases")) };
            let (closing, patience) = (Closing::default(), Patience::lasting(PATIENCE));
            let present = live_and_expired(&*target, Wait::new(patience, &closing))?;
            let is_there = |(key, lease): (_, &ListedLease)| {
                present.get(key).is_some_and(|other| {
                    (&other.lease.lease_id, other.lease.fencing_token)
                        == (&lease.lease.lease_id, lease.lease.fencing_token)
                })
            };
            let highest = target.highest_token(Wait::new(patience, &closing))?;
            if !leases.live.iter().all(is_there) || highest < leases.highest_token {
                return Err(self.differs("leases"));
            }
        }
        Ok(())
    }

    fn in_use(&self, what: &str) -> Error {
        self.not(&format!(
            "of {what} the target has some that the source has not; name a target that nobody has used yet"
        ))
    }

    fn differs(&self, what: &str) -> Error {
        self.not(&format!(
            "of {what} the target has not what the source had; stop those who use either, and run it again"
        ))
    }

    fn not(&self, cause: &str) -> Error {
        Error::NotMigrated { from: self.from.shown(), to: self.to.shown(), cause: cause.to_owned() }
    }
}

/// Whether a side's ledger, in which there is this, is valid.
fn is_whole(side: &dyn Side, entries: &Summary) -> Result<bool> {
    // An empty one may not be there, and none is to be made.
    Ok(entries.count + entries.damaged == 0 || side.ledger().verify(Patience::lasting(PATIENCE))?.is_valid())
}

fn live(store: &dyn LeaseStore, wait: Wait<'_>) -> Result<BTreeMap<OwnedKey, ListedLease>> {
    let mut leases = live_and_expired(store, wait)?;
    leases.retain(|_, lease| lease.remaining_ms > 0);
    Ok(leases)
}

fn live_and_expired(store: &dyn LeaseStore, wait: Wait<'_>) -> Result<BTreeMap<OwnedKey, ListedLease>> {
    let key = |lease: &ListedLease| OwnedKey {
        task: lease.lease.task_id.clone(),
        phase: lease.lease.phase.clone(),
    };
    Ok(store.list(wait)?.into_iter().map(|lease| (key(&lease), lease)).collect())
}

//! A schema on a server as a side of a migration.

use std::sync::Arc;

use super::lines::{Lines, Take, id_of};
use super::{PATIENCE, Side};
use crate::attestation::PostgresAttestations;
use crate::attestation::salvage::Baselines;
use crate::clock::Clock;
use crate::error::Result;
use crate::lease::{LeaseStore, PostgresLeaseStore};
use crate::ledger::{LedgerStore, PostgresLedger};
use crate::patience::Patience;

/// How many lines are sent at once.
const SENT_AT_ONCE: usize = 256;

pub(super) struct OnServer {
    url: String,
    clock: Arc<dyn Clock>,
    ledger: PostgresLedger,
    attestations: PostgresAttestations,
}

impl OnServer {
    pub(super) fn new(url: &str, clock: &Arc<dyn Clock>) -> Result<Self> {
        Ok(Self {
            url: url.to_owned(),
            clock: Arc::clone(clock),
            ledger: PostgresLedger::new(url)?,
            attestations: PostgresAttestations::new(url)?,
        })
    }
}

impl Side for OnServer {
    fn shown(&self) -> String {
        self.ledger.location().to_string()
    }

    fn ledger(&self) -> &dyn LedgerStore {
        &self.ledger
    }

    fn entries(&self) -> Box<dyn Lines + '_> {
        Box::new(Entries(&self.ledger))
    }

    fn attestations(&self) -> Box<dyn Lines + '_> {
        Box::new(Records(&self.attestations))
    }

    fn resets(&self) -> Box<dyn Lines + '_> {
        Box::new(Resets(&self.attestations))
    }

    fn baselines(&self) -> Result<Baselines> {
        if self.attestations.is_made(PATIENCE)? {
            self.attestations.baselines()
        } else {
            Ok(Baselines::new())
        }
    }

    fn put_baselines(&self, baselines: &Baselines) -> Result<()> {
        self.attestations.import_baselines(baselines, patience())
    }

    fn leases(&self, is_target: bool) -> Result<Option<Box<dyn LeaseStore>>> {
        // Nothing is acquired, so no process is announced there.
        let beside = std::env::temp_dir().join("driftlock-migration/leases");
        let store = PostgresLeaseStore::open(&self.url, &beside, &self.clock)?;
        Ok(if is_target || store.exists(PATIENCE)? { Some(Box::new(store)) } else { None })
    }
}

fn patience() -> Patience {
    Patience::lasting(PATIENCE)
}

struct Entries<'a>(&'a PostgresLedger);
struct Records<'a>(&'a PostgresAttestations);
struct Resets<'a>(&'a PostgresAttestations);

impl Lines for Entries<'_> {
    fn read(&self, from: u64, to: u64, take: &mut Take<'_>) -> Result<u64> {
        if !self.0.is_made(PATIENCE)? {
            return Ok(0);
        }
        let mut position = from;
        self.0.read_lines(from, patience(), between(&mut position, from, to, take))?;
        Ok(0)
    }

    fn append(&self, at: u64, source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>) -> Result<()> {
        in_turn(at, source, |at, lines| self.0.import(at, lines, patience()))
    }
}

impl Lines for Records<'_> {
    fn read(&self, from: u64, to: u64, take: &mut Take<'_>) -> Result<u64> {
        if self.0.is_made(PATIENCE)? {
            self.0.read_records(between(&mut 0, from, to, take))?;
        }
        Ok(0)
    }

    fn append(&self, at: u64, source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>) -> Result<()> {
        in_turn(at, source, |at, lines| self.0.import_records(&ids(at, lines), lines, patience()))
    }
}

impl Lines for Resets<'_> {
    fn read(&self, from: u64, to: u64, take: &mut Take<'_>) -> Result<u64> {
        if self.0.is_made(PATIENCE)? {
            self.0.read_resets(between(&mut 0, from, to, take))?;
        }
        Ok(0)
    }

    fn append(&self, at: u64, source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>) -> Result<()> {
        in_turn(at, source, |at, lines| self.0.import_resets(&ids(at, lines), lines, patience()))
    }
}

/// Passes on, of lines that begin at a position, those between two others.
fn between<'a>(
    position: &'a mut u64,
    from: u64,
    to: u64,
    take: &'a mut Take<'_>,
) -> impl FnMut(Vec<Vec<u8>>) -> Result<()> + 'a {
    move |mut lines| {
        let (start, end) = (*position, *position + lines.len() as u64);
        *position = end;
        lines.truncate(usize::try_from(to.saturating_sub(start)).unwrap_or(usize::MAX));
        lines.drain(..usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX).min(lines.len()));
        if lines.is_empty() { Ok(()) } else { take(&lines) }
    }
}

/// Imports what a source gives, at one position after the other.
fn in_turn(
    mut at: u64,
    source: &mut dyn FnMut(&mut Take<'_>) -> Result<()>,
    import: impl Fn(u64, &[Vec<u8>]) -> Result<()>,
) -> Result<()> {
    source(&mut |lines| {
        for some in lines.chunks(SENT_AT_ONCE) {
            import(at, some)?;
            at += some.len() as u64;
        }
        Ok(())
    })
}

fn ids(at: u64, lines: &[Vec<u8>]) -> Vec<uuid::Uuid> {
    lines.iter().zip(at..).map(|(line, position)| id_of(position, line)).collect()
}

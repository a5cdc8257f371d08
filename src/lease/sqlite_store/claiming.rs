//! How a store makes a claim: with what it has to know first, and as often as it takes.

use std::sync::Arc;

use super::{SqliteLeaseStore, claims, queries, queue};
use crate::error::Result;
use crate::lease::claim::{Claim, Claimed};
use crate::lease::patience::{Patience, Wait};
use crate::lease::presence::{self, Presence};
use crate::sqlite::Failure;

impl SqliteLeaseStore {
    /// One attempt at a claim after another, until one says more than that tokens are needed.
    pub(super) fn claim_now(
        &self,
        claim: &Claim,
        dead: &[String],
        presence: &Presence,
        wait: Wait<'_>,
    ) -> Result<Claimed> {
        let answer = self.write(wait, |writer, upkeep| {
            loop {
                let granting = self.granting(presence, upkeep);
                match claims::claim(writer, claim, None, dead, granting)? {
                    claims::Attempt::Answer(answer) => return Ok((answer, Arc::clone(upkeep))),
                    claims::Attempt::NeedsTokens if wait.patience() == Patience::Now => {
                        return Err(Failure::Busy);
                    }
                    claims::Attempt::NeedsTokens => upkeep.tokens.prepare(writer, granting.now.boot_id)?,
                }
            }
        });
        let (answer, upkeep) = answer?;
        if claim.instead_of.is_some() && matches!(answer, Claimed::Granted(_)) {
            upkeep.room.nudge();
        }
        Ok(answer)
    }

    /// The processes whose death would let a claim have its keys.
    pub(super) fn dead_in_the_way(&self, claim: &Claim, wait: Wait<'_>) -> Result<Vec<String>> {
        let mut processes = self.read(wait, |reader| {
            let mut processes = Vec::new();
            for key in &claim.keys {
                let key = key.as_key();
                let before = queue::before(reader, key, None, self.now())?;
                processes.extend(before.into_iter().map(|waiter| waiter.process));
                if claim.takes_from_the_dead {
                    processes.extend(queries::process(reader, key)?);
                }
            }
            Ok(processes)
        })?;
        processes.retain(|process| presence::is_dead(&self.path, process));
        Ok(processes)
    }
}

//! Attestations, wherever they are kept.

use std::sync::{Arc, OnceLock};

use super::drift::{Drift, Severity};
use super::record::DriftStats;
use super::spec::PromptSpec;
use crate::durability::Durability;
use crate::error::{Error, Result};
use crate::gate::Guard;
use crate::location::Location;
use crate::log;
use crate::metrics;
use crate::patience::Patience;
use crate::text::Text;

/// A prompt to be attested, hashed once, by the thread that attests it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The prompt.
    pub spec: PromptSpec,
    hash: OnceLock<String>,
}

impl Prepared {
    /// Takes a prompt; doesn't hash it yet.
    #[must_use]
    pub fn new(spec: PromptSpec) -> Self {
        Self { spec, hash: OnceLock::new() }
    }

    /// The prompt's hash.
    pub fn hash(&self) -> &String {
        self.hash.get_or_init(|| self.spec.hash())
    }
}

/// The answer to an attestation.
#[derive(Debug)]
pub struct Attestation {
    /// The hash of the prompt.
    pub current_hash: String,
    /// The hash that it was compared with; none at the first attestation.
    pub baseline_hash: Option<Text>,
    /// What the comparison found.
    pub drift: Drift,
    /// What went wrong: the answer holds what is still known.
    pub error: Option<Arc<Error>>,
}

impl Attestation {
    /// The answer when nothing could be read or written: no drift is known.
    #[must_use]
    pub fn unknown(prompt: &Prepared, error: Arc<Error>) -> Self {
        warn_of(&error);
        Self {
            current_hash: prompt.hash().clone(),
            baseline_hash: None,
            drift: Drift { severity: Severity::None, details: None, persona_details: None },
            error: Some(error),
        }
    }
}

/// What is known of a baseline besides its hash, when it is reset.
#[derive(Debug, Clone, Default)]
pub struct BaselineUpdate {
    /// Who resets it.
    pub updated_by: Option<Text>,
    /// Why.
    pub reason: Option<Text>,
    /// A name for the version.
    pub version_tag: Option<Text>,
    /// When, as ISO 8601; now if absent.
    pub timestamp: Option<Text>,
}

/// Baselines, and records of prompts that were compared with them, shared by all who use them.
///
/// A call that can't be done now waits as its patience says; one that must not wait fails with
/// [`Error::JournalLocked`] or [`Error::DatabaseLocked`] then, and may be made again by a caller who can.
pub trait AttestationStore: Send + Sync {
    /// Where the records are.
    fn location(&self) -> Location<'_>;

    /// Whether calls wait for a network.
    fn is_remote(&self) -> bool {
        matches!(self.location(), Location::Server(_))
    }

    /// How many attestations it does well in one call.
    fn largest_batch(&self) -> usize {
        usize::MAX
    }

    /// Makes the place that baselines and records are to be in, where it is absent.
    fn initialize(&self, durability: Durability, patience: Patience) -> Result<()>;

    /// Compares prompts with their baselines, records the attestations and sets the baselines of the new ones.
    ///
    /// Fails only where nothing could be read or written; what went wrong else is told in the answers.
    fn attest(
        &self,
        prompts: &[&Prepared],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<Attestation>> {
        self.attest_through(Guard::Open, prompts, durability, patience)
    }

    /// [`Self::attest`], if the guard lets it pass.
    fn attest_through(
        &self,
        guard: Guard<'_>,
        prompts: &[&Prepared],
        durability: Durability,
        patience: Patience,
    ) -> Result<Vec<Attestation>>;

    /// Sets a baseline, whatever it was.
    fn reset(
        &self,
        task: &Text,
        phase: &Text,
        hash: &Text,
        update: BaselineUpdate,
        durability: Durability,
        patience: Patience,
    ) -> Result<()>;

    /// The records of a task as they were written, oldest first.
    fn history(&self, task: &Text, patience: Patience) -> Result<Vec<Vec<u8>>>;

    /// How often prompts have drifted, over all records that there ever were.
    fn stats(&self, patience: Patience) -> Result<DriftStats>;
}

/// Counts what was found.
pub(super) fn count_attestations(prompts: &[&Prepared], answers: &[Attestation]) {
    for (prompt, answer) in prompts.iter().zip(answers) {
        let drift = &answer.drift;
        let severity = drift.severity.as_str();
        let has_other_persona = drift.persona_details.is_some();
        metrics::attestation(&prompt.spec.phase, severity, drift.is_drift(), has_other_persona);
    }
}

/// Says in the log what went wrong.
pub(super) fn warn_of(error: &Error) {
    log::warning(
        "An attestation could not be completed; the agent goes on with what is known",
        &[("code", error.code()), ("error", &error.to_string())],
    );
}

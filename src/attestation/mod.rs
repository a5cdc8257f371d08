//! Has the prompt of a task and phase drifted from its baseline?
//!
//! [`spec`] is the prompt and its hash, [`drift`] the judgement, [`baseline`] one entry of the baselines file,
//! [`baseline_file`] that file, [`salvage`] what can be saved of a damaged one, [`record`] a line of the log, [`store`]
//! what every store of attestations does, and [`file_store`] puts the files together for one workspace.

pub mod baseline;
pub mod baseline_file;
pub mod drift;
pub mod file_store;
mod postgres_store;
pub mod record;
pub mod salvage;
pub mod spec;
pub mod store;
#[cfg(test)]
mod tests;
pub mod watermark;

pub use drift::{Drift, Severity};
pub use file_store::FileAttestations;
pub use postgres_store::{Drifts, PostgresAttestations};
pub use record::DriftStats;
pub use spec::PromptSpec;
pub use store::{Attestation, AttestationStore, BaselineUpdate};

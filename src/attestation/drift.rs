//! Judging a difference between a prompt and its baseline.

use super::baseline::Baseline;
use super::spec::PromptSpec;
use crate::text::Text;

/// How much a drift matters, by the phase in which it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// No drift.
    None,
    /// An early phase.
    Low,
    /// Any other phase.
    Medium,
    /// A phase that decides whether work is accepted.
    High,
}

impl Severity {
    /// The severity of a drift in `phase`.
    #[must_use]
    pub fn of_drift_in(phase: &Text) -> Self {
        match phase.as_str() {
            Some("VERIFY" | "REVIEW" | "MONITOR") => Self::High,
            Some("STRATEGIZE" | "SPEC" | "PLAN" | "AFP_ALIGNMENT") => Self::Low,
            _ => Self::Medium,
        }
    }

    /// The severity's name in files and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn recommendation(self) -> &'static str {
        match self {
            Self::None => "Prompt specification matches baseline",
            Self::Low => "INFO: Minor prompt drift in early phase",
            Self::Medium => "WARNING: Prompt drift detected - verify intentional",
            Self::High => "CRITICAL: Prompt drift in critical phase - review immediately",
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// [`Severity::None`] if the prompt is that of the baseline, or the first.
    pub severity: Severity,
    /// Both hashes, by their first 8 digits.
    pub details: Option<String>,
    /// Both personas, by the first 16 digits of their hashes, if they differ.
    pub persona_details: Option<String>,
}

impl Drift {
    /// Compares a prompt, whose hash is `hash`, with its baseline; there is none at the first attestation.
    #[must_use]
    pub fn between(spec: &PromptSpec, hash: &str, baseline: Option<&Baseline>) -> Self {
        let Some(baseline) = baseline else {
            return Self { severity: Severity::None, details: None, persona_details: None };
        };
        let persona_details = persona_drift(spec, baseline);
        if baseline.hash.as_str() == Some(hash) {
            return Self { severity: Severity::None, details: None, persona_details };
        }
        let details = drift_details(&baseline.hash, &hash.into());
        Self { severity: Severity::of_drift_in(&spec.phase), details: Some(details), persona_details }
    }

    /// Whether the prompt differs from its baseline.
    #[must_use]
    pub fn is_drift(&self) -> bool {
        self.severity != Severity::None
    }
}

/// Both hashes, by their first 8 digits.
pub(super) fn drift_details(before: &Text, now: &Text) -> String {
    format!("Prompt hash changed from {} to {}", head(before, 8), head(now, 8))
}

fn persona_drift(spec: &PromptSpec, baseline: &Baseline) -> Option<String> {
    let now = spec.persona_hash.non_empty()?;
    let before = baseline.persona_hash.as_ref().filter(|hash| !hash.is_empty())?;
    if now == before {
        return None;
    }
    let (before, now) = (head(before, 16), head(now, 16));
    let summary =
        spec.persona_summary.non_empty().map_or_else(String::new, |summary| format!(" ({summary})"));
    Some(format!("Persona changed from {before} to {now}{summary}"))
}

fn head(hash: &Text, digits: usize) -> String {
    hash.to_string_lossy().chars().take(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::super::spec::Optional;
    use super::*;

    fn baseline(hash: &str, persona: Option<&str>) -> Baseline {
        let mut baseline = Baseline::from_json(format!("\"{hash}\"").as_bytes()).unwrap();
        baseline.persona_hash = persona.map(Text::from);
        baseline
    }

    fn spec(phase: &str, persona: Optional) -> PromptSpec {
        PromptSpec { phase: phase.into(), persona_hash: persona, ..PromptSpec::default() }
    }

    #[test]
    fn severity_depends_on_the_phase() {
        for (phase, severity) in [
            ("VERIFY", Severity::High),
            ("REVIEW", Severity::High),
            ("MONITOR", Severity::High),
            ("STRATEGIZE", Severity::Low),
            ("SPEC", Severity::Low),
            ("PLAN", Severity::Low),
            ("AFP_ALIGNMENT", Severity::Low),
            ("IMPLEMENT", Severity::Medium),
            ("THINK", Severity::Medium),
            ("PR", Severity::Medium),
            ("anything", Severity::Medium),
        ] {
            let drift = Drift::between(&spec(phase, Optional::Absent), "new", Some(&baseline("old", None)));
            assert_eq!(drift.severity, severity, "{phase}");
        }
    }

    #[test]
    fn details_name_both_hashes_by_their_first_digits() {
        let drift =
            Drift::between(&spec("PR", Optional::Absent), "0123456789", Some(&baseline("abcdefghijk", None)));
        assert_eq!(drift.details.as_deref(), Some("Prompt hash changed from abcdefgh to 01234567"));
    }

    #[test]
    fn persona_drift_needs_two_personas() {
        let old = "a".repeat(20);
        let new = Optional::Text("b".repeat(20).into());
        let with = |persona: &Optional, base: Option<&str>| {
            Drift::between(&spec("PR", persona.clone()), "h", Some(&baseline("h", base))).persona_details
        };
        assert_eq!(
            with(&new, Some(&old)).as_deref(),
            Some("Persona changed from aaaaaaaaaaaaaaaa to bbbbbbbbbbbbbbbb")
        );
        assert_eq!(with(&new, Some("")), None);
        assert_eq!(with(&new, None), None);
        assert_eq!(with(&Optional::Absent, Some(&old)), None);
        assert_eq!(with(&Optional::Text("".into()), Some(&old)), None);
        assert_eq!(with(&Optional::Text(old.as_str().into()), Some(&old)), None);
    }
}

/**
 * What an agent is asked to do in one phase of a task.
 *
 * Hashed are phase, taskId, requirements, qualityGates, artifacts, contextSummary, personaHash, agentType and
 * modelVersion; the order within the three lists does not matter.
 */
export interface PromptSpec {
  /** The phase. It must not contain a colon. */
  phase: WorkPhase | (string & {})
  /** The task. */
  taskId: string
  /** When the prompt was made; neither hashed nor recorded. */
  timestamp: string
  /** What is required. */
  requirements: string[]
  /** What will be checked. */
  qualityGates: string[]
  /** What the work is on. */
  artifacts: string[]
  /** The context, of any length. */
  contextSummary: string
  /** A hash of the persona that the agent takes on. */
  personaHash?: string
  /** The persona in words. */
  personaSummary?: string
  /** The kind of agent. */
  agentType?: string
  /** The model and its version. */
  modelVersion?: string
  /** Ignored. */
  promptHash?: string
  /** Ignored. */
  promptPreview?: string
  /** Ignored. */
  promptSlots?: unknown
  /** Ignored. */
  variantId?: string
}

/** A record of the attestations log. Records of older versions lack the fields marked as optional. */
export interface PromptAttestation {
  /** Names the record (UUID). */
  attestation_id: string
  /** The task. */
  task_id: string
  /** The phase. */
  phase: WorkPhase
  /** The SHA-256 of the prompt. */
  prompt_hash: string
  /** The baseline that it was compared with. Absent at the first attestation. */
  baseline_hash?: string
  /** Whether the two differ. */
  drift_detected: boolean
  /** Both hashes, by their first 8 digits, if they differ. */
  drift_details?: string
  /** When the record was made (ISO 8601, milliseconds, Z). */
  timestamp: string
  /** The prompt's persona. */
  persona_hash?: string
  /** The persona in words. */
  persona_summary?: string
  /** Whether the persona differs from the baseline's. */
  persona_drift?: boolean
  /** The kind of agent. */
  agent_type?: string
  /** The model and its version. */
  prompt_version?: string
  /** How much the drift matters. */
  severity?: DriftSeverity
  /** The version of the baseline, from 1. */
  baseline_version?: number
}

/** What is noted when a baseline is reset. */
export interface BaselineUpdateOptions {
  /** Who resets it. */
  updatedBy?: string
  /** Why. */
  reason?: string
  /** A name for the new version. */
  versionTag?: string
  /** When (ISO 8601). Default now. */
  timestamp?: string
}

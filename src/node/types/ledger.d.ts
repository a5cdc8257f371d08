/** Further facts about a transition. */
export interface TransitionMetadata {
  /** The kind of agent. */
  agentType?: string
  /** How long the phase took, in milliseconds; finite. */
  durationMs?: number
  /** A hash of the agent's persona. */
  personaHash?: string
  /**
   * The fence of a lease of the phase that is entered. The entry is appended only if that lease is still the newest one,
   * expired or not, and no take-over fits in between; else the call rejects with the code `FENCED`. Not recorded.
   */
  fence?: Fence
}

/** An entry of the ledger. */
export interface LedgerEntry {
  /** Names the entry (UUID). */
  entry_id: string
  /** When it was appended (ISO 8601, milliseconds, Z). */
  timestamp: string
  /** The `entry_hash` of the entry before; `'genesis'` in the first. */
  previous_hash: string
  /**
   * The SHA-256 of `JSON.stringify` of entry_id, timestamp, previous_hash, task_id, from_phase, to_phase,
   * evidence_artifacts, evidence_validated, agent_type and duration_ms, in this order, absent ones left out.
   */
  entry_hash: string
  /** The task. */
  task_id: string
  /** The phase that was left; null at the beginning. */
  from_phase: WorkPhase | null
  /** The phase that was entered. */
  to_phase: WorkPhase
  /** What shows that the work was done. */
  evidence_artifacts: string[]
  /** Whether somebody has checked it. */
  evidence_validated: boolean
  /** A hash of the agent's persona. */
  persona_hash?: string
  /** The kind of agent. */
  agent_type?: string
  /** How long the phase took, in milliseconds. */
  duration_ms?: number
  /** The SHA-256 of `JSON.stringify` of entry_hash and persona_hash, if there is a persona. */
  persona_seal?: string
}

// Baselines as one JSON file, and a file of JSON lines for the records.

import { createHash, randomUUID } from 'node:crypto'
import { access, appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { withFileLock } from './file_lock'

interface PromptSpec {
  phase: string
  taskId: string
  requirements: string[]
  qualityGates: string[]
  artifacts: string[]
  contextSummary: string
  personaHash?: string
  agentType?: string
  modelVersion?: string
}

interface Baseline {
  hash: string
  version: number
  updatedAt: string
  personaHash?: string
}

interface PromptAttestation {
  attestation_id: string
  task_id: string
  phase: string
  prompt_hash: string
  baseline_hash?: string
  drift_detected: boolean
  timestamp: string
  persona_hash?: string
  persona_drift: boolean
  agent_type?: string
  prompt_version?: string
  severity: string
  baseline_version: number
}

const HIGH = ['VERIFY', 'REVIEW', 'MONITOR']
const LOW = ['STRATEGIZE', 'SPEC', 'PLAN', 'AFP_ALIGNMENT']

export class PromptAttestationManager {
  private readonly folder: string
  private readonly log: string
  private readonly baselines: string

  constructor(workspaceRoot: string) {
    this.folder = join(workspaceRoot, 'state', 'process')
    this.log = join(this.folder, 'prompt_attestations.jsonl')
    this.baselines = join(this.folder, 'prompt_baselines.json')
  }

  async initialize(): Promise<void> {
    await mkdir(this.folder, { recursive: true })
    await access(this.baselines).catch(() => writeFile(this.baselines, '{}'))
  }

  async attest(spec: PromptSpec) {
    const currentHash = hashOf(spec)
    const baselines = await this.loadBaselines()
    const key = `${spec.taskId}:${spec.phase}`
    const baseline = baselines[key]
    const hasDrift = baseline !== undefined && baseline.hash !== currentHash
    const personaDrift = Boolean(spec.personaHash && baseline?.personaHash && spec.personaHash !== baseline.personaHash)
    const severity = !hasDrift
      ? 'none'
      : HIGH.includes(spec.phase)
        ? 'high'
        : LOW.includes(spec.phase)
          ? 'low'
          : 'medium'
    await this.record({
      attestation_id: randomUUID(),
      task_id: spec.taskId,
      phase: spec.phase,
      prompt_hash: currentHash,
      baseline_hash: baseline?.hash,
      drift_detected: hasDrift,
      timestamp: new Date().toISOString(),
      persona_hash: spec.personaHash,
      persona_drift: personaDrift,
      agent_type: spec.agentType,
      prompt_version: spec.modelVersion,
      severity,
      baseline_version: baseline?.version ?? 1,
    })
    if (!baseline) {
      baselines[key] = {
        hash: currentHash,
        version: 1,
        updatedAt: new Date().toISOString(),
        personaHash: spec.personaHash,
      }
      await writeFile(this.baselines, JSON.stringify(baselines, null, 2))
    }
    return { hasDrift, baselineHash: baseline?.hash, currentHash, severity, personaDrift }
  }

  async getAttestationHistory(taskId: string): Promise<PromptAttestation[]> {
    return (await this.records()).filter((record) => record.task_id === taskId)
  }

  async getDriftStats() {
    const records = await this.records()
    const severityCounts: Record<string, number> = {}
    for (const { severity } of records) severityCounts[severity] = (severityCounts[severity] ?? 0) + 1
    const driftDetections = records.filter((record) => record.drift_detected).length
    return {
      totalAttestations: records.length,
      driftDetections,
      driftRate: records.length ? driftDetections / records.length : 0,
      severityCounts,
    }
  }

  private async record(attestation: PromptAttestation): Promise<void> {
    try {
      await withFileLock(`${this.log}.lock`, () => appendFile(this.log, `${JSON.stringify(attestation)}\n`))
    } catch {
      // An attestation never blocks an agent: without the lock the record is dropped.
    }
  }

  private async records(): Promise<PromptAttestation[]> {
    try {
      const content = await readFile(this.log, 'utf8')
      return content
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as PromptAttestation)
    } catch {
      return []
    }
  }

  private async loadBaselines(): Promise<Record<string, Baseline>> {
    try {
      return JSON.parse(await readFile(this.baselines, 'utf8')) as Record<string, Baseline>
    } catch {
      return {}
    }
  }
}

function hashOf(spec: PromptSpec): string {
  const { phase, taskId, contextSummary, personaHash, agentType, modelVersion } = spec
  const lists = {
    requirements: [...spec.requirements].sort(),
    qualityGates: [...spec.qualityGates].sort(),
    artifacts: [...spec.artifacts].sort(),
  }
  const hashed = { phase, taskId, ...lists, contextSummary, personaHash, agentType, modelVersion }
  return createHash('sha256').update(JSON.stringify(hashed)).digest('hex')
}

// Everything that the orchestrator names, as a TypeScript program of a user's: it is type-checked, never run.
import {
  AttestationError,
  acquireLock,
  type BaselineUpdateOptions,
  type DriftAnalysis,
  DriftlockError,
  type Fence,
  FileLockError,
  fencedWriteFile,
  type HeldLease,
  type HeldLeases,
  type LeaseAcquisitionResult,
  LeaseError,
  type LeaseListing,
  type LeaseRenewalResult,
  type LeaseStats,
  type LedgerEntry,
  LedgerError,
  type LockOptions,
  type PhaseLease,
  PhaseLeaseManager,
  PhaseLedger,
  type PromptAttestation,
  PromptAttestationManager,
  type PromptSpec,
  releaseLock,
  resolveWorkspace,
  setLogger,
  setLogLevel,
  type VerificationResult,
  type WorkPhase,
  withFileLock,
} from 'driftlock'

export * from 'driftlock'

const phase: WorkPhase = 'IMPLEMENT'
// @ts-expect-error no such phase
export const wrong: WorkPhase = 'IMPLEMENTING'

export async function leases(root: string): Promise<string[]> {
  const manager = new PhaseLeaseManager(root, { leaseDuration: 0.5, maxRenewals: 0, agentId: 'a' })
  const taken: LeaseAcquisitionResult = await manager.acquireLease('T-1', phase)
  const renewed: LeaseRenewalResult = await manager.renewLease('T-1', phase)
  const stats: LeaseStats = await manager.getStats()
  const lease: PhaseLease | null = manager.getLease('T-1', phase)
  const held: boolean = manager.holdsLease('T-1', phase) && (await manager.releaseLease('T-1', phase))
  const released: number = await manager.releaseAllLeases()
  manager.close()
  const holder: string | undefined = taken.holder ?? taken.reason ?? lease?.lease_id
  return [holder ?? '', `${taken.expiresIn} ${renewed.expiresAt} ${stats.averageHoldTime} ${held} ${released}`]
}

export async function holds(manager: PhaseLeaseManager): Promise<Fence> {
  await using lease: HeldLease = await manager.hold('T-1', phase, { waitMs: 1000, maxHoldMs: 60_000 })
  await using both: HeldLeases = await manager.holdMany([{ taskId: 'T-2', phase }])
  const next = await lease.advance('REVIEW')
  manager.on('expiry', ({ agentId, by }) => `${agentId} ${by}`).on('contention', ({ holder }) => holder)
  const [listed]: LeaseListing[] = await manager.listLeases()
  await manager.checkFence(next.fence)
  await fencedWriteFile('file', new Uint8Array(1), both.leases[0]?.fence ?? next.fence)
  await manager.forceRelease('T-1', phase, { by: 'me', reason: `${listed?.pid} ${listed?.waiters}` })
  return next.fence
}

export async function attestations(root: string, spec: PromptSpec): Promise<PromptAttestation[]> {
  const manager = new PromptAttestationManager(root)
  await manager.initialize()
  const analysis: DriftAnalysis = await manager.attest(spec)
  const options: BaselineUpdateOptions = { updatedBy: 'me', reason: analysis.recommendation }
  await manager.resetBaseline(spec.taskId, spec.phase, analysis.currentHash, options)
  const { driftRate, severityCounts } = await manager.getDriftStats()
  const high: number = driftRate + (severityCounts.high ?? 0)
  return high > 0 ? await manager.getAttestationHistory(spec.taskId) : []
}

export async function ledger(root: string): Promise<LedgerEntry> {
  const book = new PhaseLedger(root)
  await book.initialize()
  const entry = await book.appendTransition('T-1', null, phase, ['a'], true, { agentType: 'x', durationMs: 1 })
  const result: VerificationResult = await book.verify()
  const current: string | null = await book.getCurrentPhase('T-1')
  if (!result.valid || current !== phase) throw new Error(result.error)
  return entry
}

export async function locks(path: string, options?: LockOptions): Promise<number> {
  if (await acquireLock(path, options)) await releaseLock(path)
  const synchronous: number = await withFileLock(path, () => 1)
  return synchronous + (await withFileLock(path, async () => 2, { timeout: 10 }))
}

export function root(path: string): string {
  return resolveWorkspace(path)
}

export function codeOf(error: unknown): string | undefined {
  const classes = [LeaseError, AttestationError, LedgerError, FileLockError]
  for (const one of classes) if (error instanceof one) return error.code
  return error instanceof DriftlockError ? error.code : undefined
}

setLogLevel('silent')
setLogger((event) => event.message.trim())
setLogger(null)

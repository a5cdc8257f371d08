// These hold when the suite is type-checked; at run time there is nothing left of them.
import { expectTypeOf, test } from 'vitest'
import {
  acquireLock,
  type BaselineUpdateOptions,
  type DriftAnalysis,
  type LeaseAcquisitionResult,
  type LeaseRenewalResult,
  type LeaseStats,
  type LedgerEntry,
  type LockOptions,
  type PhaseLease,
  PhaseLeaseManager,
  PhaseLedger,
  type PromptAttestation,
  PromptAttestationManager,
  type PromptSpec,
  releaseLock,
  resolveWorkspace,
  TelemetryRecorder,
  type VerificationResult,
  type WorkPhase,
  withFileLock,
} from '../index.js'

test('the types have the names and shapes that callers rely on', () => {
  expectTypeOf<'SPEC' | 'MONITOR'>().toExtend<WorkPhase>()
  expectTypeOf<PhaseLease['expires_at']>().toEqualTypeOf<string>()
  expectTypeOf<PhaseLease['renewed_count']>().toEqualTypeOf<number>()
  expectTypeOf<LeaseStats['averageHoldTime']>().toEqualTypeOf<number>()
  expectTypeOf<PromptSpec['requirements']>().toEqualTypeOf<string[]>()
  expectTypeOf<{ taskId: string; promptPreview: string; variantId: string }>().toExtend<Partial<PromptSpec>>()
  expectTypeOf<PromptAttestation['drift_detected']>().toEqualTypeOf<boolean>()
  expectTypeOf<DriftAnalysis['currentHash']>().toEqualTypeOf<string>()
  expectTypeOf<LedgerEntry['evidence_artifacts']>().toEqualTypeOf<string[]>()
  expectTypeOf<{ timeout: 1; retryDelay: 1; maxRetries: 1 }>().toExtend<LockOptions>()
  expectTypeOf<{
    updatedBy: string
    reason: string
    versionTag: string
    timestamp: string
  }>().toExtend<BaselineUpdateOptions>()

  const leases = PhaseLeaseManager.prototype
  expectTypeOf(leases.acquireLease).returns.resolves.toExtend<LeaseAcquisitionResult>()
  expectTypeOf(leases.renewLease).returns.resolves.toExtend<LeaseRenewalResult>()
  expectTypeOf(leases.holdsLease).returns.toEqualTypeOf<boolean>()
  expectTypeOf(leases.getLease).returns.toEqualTypeOf<PhaseLease | null>()
  expectTypeOf(leases.getStats).returns.resolves.toExtend<LeaseStats>()
  expectTypeOf(PromptAttestationManager.prototype.attest).returns.resolves.toExtend<DriftAnalysis>()
  expectTypeOf(PromptAttestationManager.prototype.getAttestationHistory).returns.resolves.toEqualTypeOf<
    PromptAttestation[]
  >()
  expectTypeOf(PhaseLedger.prototype.appendTransition).returns.resolves.toExtend<LedgerEntry>()
  expectTypeOf(PhaseLedger.prototype.verify).returns.resolves.toExtend<VerificationResult>()
  expectTypeOf(TelemetryRecorder.prototype.recordCounter).toEqualTypeOf<
    (name: string, value?: number, metadata?: Record<string, unknown>) => Promise<void>
  >()
  expectTypeOf(acquireLock).returns.resolves.toEqualTypeOf<boolean>()
  expectTypeOf(releaseLock).returns.resolves.toEqualTypeOf<void>()
  expectTypeOf(resolveWorkspace).toEqualTypeOf<(path: string) => string>()
  expectTypeOf(withFileLock<number>).returns.resolves.toEqualTypeOf<number>()
})

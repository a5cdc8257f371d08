import { expect } from 'vitest'
import { DriftlockError, type PromptSpec } from '../../index.js'

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const ISO_MS = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/
export const SHA256 = /^[0-9a-f]{64}$/
export const HELD = 'Lease already held by another agent'
export const NOT_HELD = 'Lease not held by this agent'
export const INTERNAL = /^Internal error: ./

/** A specification with everything that is required and nothing else. */
export function makeSpec(over: Partial<PromptSpec> = {}): PromptSpec {
  return {
    phase: 'IMPLEMENT',
    taskId: 'TASK-1',
    timestamp: '2026-01-01T00:00:00.000Z',
    requirements: ['first requirement', 'second requirement'],
    qualityGates: ['build', 'test'],
    artifacts: ['src/a.ts'],
    contextSummary: 'what has been done so far',
    ...over,
  }
}

/** Checks that `call` refuses at once, by a throw, because of an argument. */
export function expectRefused(
  call: () => unknown,
  argument: string,
  kind?: new (...parameters: never[]) => Error,
): void {
  let thrown: unknown
  try {
    call()
  } catch (error) {
    thrown = error
  }
  expectArgumentError(thrown, argument, kind)
}

/** Checks that `call` answers with a Promise, never throws, and that it rejects because of an argument. */
export async function expectRejected(
  call: () => unknown,
  argument: string,
  kind?: new (...parameters: never[]) => Error,
): Promise<void> {
  const promise = call()
  expect(promise).toBeInstanceOf(Promise)
  const outcome = await (promise as Promise<unknown>).then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
  expectArgumentError('error' in outcome ? outcome.error : undefined, argument, kind)
}

function expectArgumentError(error: unknown, argument: string, kind?: new (...parameters: never[]) => Error): void {
  expect(error).toBeInstanceOf(DriftlockError)
  if (kind) expect(error).toBeInstanceOf(kind)
  expect((error as DriftlockError).code).toBe('INVALID_ARGUMENT')
  expect((error as DriftlockError).message).toContain(argument)
}

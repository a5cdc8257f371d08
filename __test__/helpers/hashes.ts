import { createRequire } from 'node:module'
import type { LedgerEntry, PromptSpec } from '../../index.js'

/** The hashes as the contract has them; the scripts that write vectors and fixtures use the same code. */
export const { promptHash, entryHash } = createRequire(__filename)('./reference.cjs') as {
  promptHash(spec: PromptSpec): string
  entryHash(entry: LedgerEntry): string
}

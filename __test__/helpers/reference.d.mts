import type { LedgerEntry, PromptSpec } from '../../index.js'

export function promptHash(spec: PromptSpec): string
export function entryHash(entry: LedgerEntry): string

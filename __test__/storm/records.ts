// What is wrong with the files of a workspace, checked without the package.
import { readFileSync } from 'node:fs'
import { entryHash } from '../helpers/hashes.js'
import { attestationsPath, baselinesPath, type Json, ledgerPath } from '../helpers/workspace.js'

/** The lines of a JSONL file; what is no whole line of JSON becomes a problem. */
export function parseLines(path: string, problems: string[]): Json[] {
  const lines = readFileSync(path, 'utf8').split('\n')
  if (lines.pop() !== '') problems.push(`the last line of ${path} is not complete`)
  return lines.flatMap((line, i) => {
    try {
      return [JSON.parse(line) as Json]
    } catch {
      problems.push(`line ${i + 1} of ${path} is not JSON`)
      return []
    }
  })
}

/**
 * What is wrong with the attestations: each of `expected` (`task:phase` to the number of records) has to have so many
 * records, one baseline, and exactly one first record, which comes before the others and set the baseline.
 */
export function checkAttestations(root: string, expected: Map<string, number>): string[] {
  const problems: string[] = []
  const records = parseLines(attestationsPath(root), problems)
  let baselines: Record<string, Json> = {}
  try {
    baselines = JSON.parse(readFileSync(baselinesPath(root), 'utf8')) as Record<string, Json>
  } catch (error) {
    problems.push(`the baselines are not JSON: ${error}`)
  }
  if (new Set(records.map(({ attestation_id }) => attestation_id)).size !== records.length)
    problems.push('an id comes twice')
  const byKey = new Map<string, Json[]>()
  for (const record of records) {
    const key = `${record.task_id}:${record.phase}`
    const others = byKey.get(key)
    if (others) others.push(record)
    else byKey.set(key, [record])
  }
  for (const [key, count] of expected) {
    const found = byKey.get(key) ?? []
    if (found.length !== count) problems.push(`${key} has ${found.length} records instead of ${count}`)
    const firsts = found.filter(({ baseline_hash }) => baseline_hash === undefined)
    if (firsts.length !== 1 || found[0] !== firsts[0])
      problems.push(`${key} has ${firsts.length} first records, or not in front`)
    const hash = firsts[0]?.prompt_hash
    if (!hash || baselines[key]?.hash !== hash)
      problems.push(`the baseline of ${key} is ${baselines[key]?.hash}, its first record ${hash}`)
    if (found.some(({ baseline_hash }) => baseline_hash !== undefined && baseline_hash !== hash))
      problems.push(`${key} was compared with another baseline`)
    if (
      found.some(
        ({ baseline_hash, prompt_hash, drift_detected }) =>
          drift_detected !== (baseline_hash !== undefined && baseline_hash !== prompt_hash),
      )
    ) {
      problems.push(`a drift of ${key} was missed or made up`)
    }
  }
  for (const key of byKey.keys()) if (!expected.has(key)) problems.push(`nobody attested ${key}`)
  for (const key of Object.keys(baselines)) if (!expected.has(key)) problems.push(`nobody set a baseline of ${key}`)
  return problems
}

/** What is wrong with the ledger: one unbroken chain, of true hashes, with each of `expected` (task ids) once. */
export function checkLedger(root: string, expected?: Iterable<string>): string[] {
  const problems: string[] = []
  const entries = parseLines(ledgerPath(root), problems)
  let previous = 'genesis'
  for (const [i, entry] of entries.entries()) {
    if (entry.previous_hash !== previous) problems.push(`entry ${i} does not follow the one before`)
    if (entry.entry_hash !== entryHash(entry)) problems.push(`the hash of entry ${i} is wrong`)
    previous = entry.entry_hash
  }
  if (new Set(entries.map(({ entry_id }) => entry_id)).size !== entries.length) problems.push('an id comes twice')
  if (expected) {
    const missing = new Set(expected)
    for (const { task_id } of entries)
      if (!missing.delete(task_id)) problems.push(`${task_id} comes twice, or nobody appended it`)
    for (const task of missing) problems.push(`${task} is missing`)
  }
  return problems
}

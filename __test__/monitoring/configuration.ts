import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'

export const repository = join(__dirname, '../..')
export const monitoringPath = (name: string): string => join(repository, 'monitoring', name)
export const read = (name: string): string => readFileSync(monitoringPath(name), 'utf8')

export interface Rule {
  alert?: string
  record?: string
  expr: string
  labels?: { severity: string }
  annotations?: Record<string, string>
}

export interface Alert extends Rule {
  alert: string
  labels: { severity: string }
  annotations: Record<string, string>
}

export function allRules(): Rule[] {
  return (parse(read('prometheus/driftlock.rules.yml')).groups as { rules: Rule[] }[]).flatMap(({ rules }) => rules)
}

export const allAlerts = (): Alert[] => allRules().filter((rule): rule is Alert => rule.alert !== undefined)

/** Says why tests are not run here, if they aren't; in CI they fail instead. */
export function notRun(reason: string | undefined): boolean {
  if (reason === undefined) return false
  if (process.env.CI) throw new Error(reason)
  console.warn(`not run: ${reason}`)
  return true
}

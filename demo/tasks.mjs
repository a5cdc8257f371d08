// The work: which tasks there are, which phases each goes through, and what the prompt of each says.

import { readFileSync } from 'node:fs'

/**
 * @typedef {object} Task
 * @property {string} taskId
 * @property {string} title
 * @property {string[]} requirements
 * @property {string} contextSummary
 */

/** The phases of a task, in order. */
export const PHASES = /** @type {const} */ ([
  'STRATEGIZE',
  'SPEC',
  'PLAN',
  'AFP_ALIGNMENT',
  'IMPLEMENT',
  'VERIFY',
  'REVIEW',
  'PR',
  'MONITOR',
])

/** @typedef {(typeof PHASES)[number]} Phase */

/** The role that works on a phase, and the gates that its result has to pass. */
const GUIDANCE = {
  STRATEGIZE: { role: 'planner', gates: ['problem and root cause stated'] },
  SPEC: { role: 'planner', gates: ['acceptance criteria measurable'] },
  PLAN: { role: 'planner', gates: ['files and tests named', 'at most five files'] },
  AFP_ALIGNMENT: { role: 'reviewer', gates: ['simplest approach that works', 'no duplicated pattern'] },
  IMPLEMENT: { role: 'implementer', gates: ['build passes', 'lint passes'] },
  VERIFY: { role: 'reviewer', gates: ['tests pass', 'end-to-end check recorded'] },
  REVIEW: { role: 'reviewer', gates: ['no open finding of high severity'] },
  PR: { role: 'implementer', gates: ['branch is current', 'description links the evidence'] },
  MONITOR: { role: 'operator', gates: ['no new error in the logs'] },
}

/** Callers of the package cut contexts at this many UTF-16 units, sometimes in the middle of a character. */
const CONTEXT_LIMIT = 500

/**
 * The name of a (task, phase), written as in the baselines file.
 * @param {string} taskId
 * @param {string} phase
 */
export const keyOf = (taskId, phase) => `${taskId}:${phase}`

/**
 * The phase that follows `current`; undefined after the last one.
 * @param {string | null} current
 * @returns {Phase | undefined}
 */
export function nextPhase(current) {
  if (current === null) return PHASES[0]
  const index = PHASES.indexOf(/** @type {Phase} */ (current))
  // An unknown phase must not look like "before the first one".
  if (index < 0) throw new Error(`The ledger names an unknown phase: ${current}`)
  return PHASES[index + 1]
}

/**
 * @param {string} path a file of JSON lines
 * @returns {Task[]}
 */
export function readTasks(path) {
  const seen = new Set()
  /** @type {Task[]} */
  const tasks = []
  for (const [index, line] of readFileSync(path, 'utf8').split('\n').entries()) {
    if (line.trim() === '') continue
    const where = `${path}:${index + 1}`
    let value
    try {
      value = JSON.parse(line)
    } catch (error) {
      throw new Error(`${where}: not JSON (${/** @type {Error} */ (error).message})`)
    }
    const { taskId, title = '', requirements = [], contextSummary = '' } = value ?? {}
    if (typeof taskId !== 'string' || taskId === '') throw new Error(`${where}: taskId is missing`)
    if (seen.has(taskId)) throw new Error(`${where}: taskId ${taskId} was used before`)
    if (!Array.isArray(requirements) || requirements.some((entry) => typeof entry !== 'string')) {
      throw new Error(`${where}: requirements is not a list of strings`)
    }
    if (typeof title !== 'string' || typeof contextSummary !== 'string') {
      throw new Error(`${where}: title and contextSummary must be strings`)
    }
    seen.add(taskId)
    tasks.push({ taskId, title, requirements, contextSummary })
  }
  if (tasks.length === 0) throw new Error(`${path}: no tasks`)
  return tasks
}

/**
 * The prompt of one phase of a task. It depends on nothing else, so that whichever agent attests it gets the same hash.
 * @param {Task} task
 * @param {Phase} phase
 */
export function promptFor(task, phase) {
  const { role, gates } = GUIDANCE[phase]
  return {
    phase,
    taskId: task.taskId,
    timestamp: new Date().toISOString(),
    requirements: task.requirements,
    qualityGates: gates,
    artifacts: [`state/evidence/${task.taskId}/${phase.toLowerCase()}.md`],
    contextSummary: `${task.title}\n${task.contextSummary}`.slice(0, CONTEXT_LIMIT),
    agentType: role,
  }
}

/**
 * The same prompt after somebody changed its last requirement (or added one where there was none).
 * @param {Task} task
 * @param {Phase} phase
 */
export function changedPromptFor(task, phase) {
  const prompt = promptFor(task, phase)
  const last = prompt.requirements.at(-1) ?? ''
  return { ...prompt, requirements: [...prompt.requirements.slice(0, -1), `${last} (changed after the baseline)`] }
}

/**
 * The (task, phase) pairs whose prompt is changed on purpose: of all pairs, numbered from 0 task by task and in each
 * task phase by phase, those numbered floor(i * pairs / count) for i = 0 … count - 1.
 * So they are evenly spread, and known beforehand.
 * @param {Task[]} tasks
 * @param {number} count
 * @returns {Set<string>} their keys
 */
export function driftKeys(tasks, count) {
  const pairs = tasks.length * PHASES.length
  const keys = new Set()
  for (let i = 0; i < count; i += 1) {
    const number = Math.floor((i * pairs) / count)
    keys.add(keyOf(tasks[Math.floor(number / PHASES.length)].taskId, PHASES[number % PHASES.length]))
  }
  return keys
}

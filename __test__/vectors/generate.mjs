// Writes prompt_hash.json: specifications and their hashes, computed with nothing but JSON.stringify and node:crypto.
//   node __test__/vectors/generate.mjs            writes the file anew (always the same)
//   node __test__/vectors/generate.mjs --check F  recomputes the hashes of another file of this form
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { promptHash } from '../helpers/reference.cjs'

const base = {
  phase: 'SPEC',
  taskId: 'T-1',
  timestamp: '2026-01-01T00:00:00.000Z',
  requirements: [],
  qualityGates: [],
  artifacts: [],
  contextSummary: '',
}
const every = String.fromCharCode(...Array.from({ length: 0x21 }, (_, code) => code))
const units = (from, to) => Array.from({ length: to - from }, (_, i) => String.fromCharCode(from + i))

const cases = {
  'nothing but what is required': {},
  'everything there is': {
    phase: 'IMPLEMENT',
    requirements: ['r2', 'r1'],
    qualityGates: ['lint', 'build'],
    artifacts: ['b.ts', 'a.ts'],
    contextSummary: 'context',
    personaHash: 'ab'.repeat(32),
    personaSummary: 'careful',
    agentType: 'coder',
    modelVersion: 'model-4',
  },
  'other keys in another order': {
    modelVersion: 'm',
    agentType: 'a',
    personaHash: 'p',
    promptHash: 'ignored',
    promptPreview: 'ignored',
    promptSlots: { ignored: true },
    variantId: 'ignored',
    unknown: ['ignored'],
  },
  'timestamp and persona summary are not part of it': { timestamp: 'x', personaSummary: 'y' },
  'persona hash empty': { personaHash: '' },
  'persona hash null': { personaHash: null },
  'agent type null': { agentType: null },
  'model version null': { modelVersion: null },
  'agent type empty': { agentType: '' },
  'model version empty': { modelVersion: '' },
  'all strings empty': { phase: '', taskId: '' },
  'a phase that nobody knows': { phase: 'DANCE' },
  'capitals before small letters': { requirements: ['b', 'B', 'a', 'A', 'Z', 'z'] },
  'digits as text, not as numbers': { requirements: ['10', '9', '1', '100', '-1'] },
  'prefixes first': { requirements: ['abc', 'ab', '', 'a', 'abcd'] },
  'equal entries stay': { requirements: ['x', 'x', 'a', 'x'], artifacts: ['', '', ''] },
  'accents by code unit, not by locale': { artifacts: ['é', 'e', 'f', 'É', 'e\u0301', 'z'] },
  'astral before the last of the basic plane': { requirements: ['\uffee', '\u{1f600}', 'a', '\ue000', '\ud7ff'] },
  'sorted by the second unit of a pair': { requirements: ['\u{1f602}', '\u{1f600}', '\u{1f601}', '\u{2f800}'] },
  'a high surrogate alone sorts before its pairs': { requirements: ['\ud83d\ude00', '\ud83d', '\ud83da', '\ud83d\ud83d'] },
  'a low surrogate alone': { contextSummary: '\udc00' },
  'surrogates in the wrong order': { contextSummary: '\udc00\ud83d' },
  'a pair between two halves': { contextSummary: '\ud83d\ud83d\ude00\ude00' },
  'half a pair in every text': {
    phase: 'P\ud800',
    taskId: '\udbff',
    requirements: ['\ud800\ue000', '\udfff'],
    qualityGates: ['\udc00\ud800'],
    artifacts: ['a\udc00b'],
    contextSummary: 'x\ud83d',
    personaHash: '\ud801',
    agentType: '\ud802',
    modelVersion: '\ud803',
  },
  'a replacement character is not half a pair': { contextSummary: '\ufffd' },
  'a context cut at 500 units': { contextSummary: `${'x'.repeat(499)}\u{1f600}`.slice(0, 500) },
  'the control characters': { contextSummary: every },
  'each control character as a requirement': { requirements: units(0, 0x21).reverse() },
  'delete and the C1 controls': { contextSummary: units(0x7f, 0xa1).join('') },
  'quotation marks and backslashes': { contextSummary: '"\\/\'`\\u0041\\"' },
  'line and paragraph separators': { contextSummary: 'a\u2028b\u2029c\u0085d' },
  'byte order mark and joiners': { contextSummary: '\ufeffa\u200d\u200b\u2060' },
  'composed and decomposed differ, one': { contextSummary: '\u00e9' },
  'composed and decomposed differ, other': { contextSummary: 'e\u0301' },
  'noncharacters': { contextSummary: '\ufffe\uffff\u{1ffff}\u{10ffff}' },
  'right to left and combining': { contextSummary: 'שלום مرحبا \u202e क्षि 👩‍👩‍👧' },
  'text that looks like JSON': { contextSummary: '{"phase":"SPEC"},', requirements: ['[]', '"', '},{'] },
  'text that looks like HTML': { contextSummary: '<script>&amp;</script>' },
  'a colon in the task id': { taskId: 'epic:1:T' },
  'a long context': { contextSummary: 'The quick brown fox. '.repeat(1000) },
  'a long context beyond ASCII': { contextSummary: 'ä€\u{1f600}\n'.repeat(1000) },
  'many requirements': { requirements: Array.from({ length: 1000 }, (_, i) => `r${(i * 7919) % 1000}`) },
  'names of prototypes': { taskId: '__proto__', requirements: ['constructor', '__proto__', 'toString'] },
}

const [flag, other] = process.argv.slice(2)
if (flag === '--check') {
  const given = JSON.parse(readFileSync(other, 'utf8'))
  const wrong = given.filter(({ spec, hash }) => promptHash(spec) !== hash)
  console.log(`${given.length} cases, ${wrong.length} differ`, wrong.map(({ name }) => name))
  process.exitCode = wrong.length > 0 ? 1 : 0
} else {
  const vectors = Object.entries(cases).map(([name, over]) => {
    const spec = { ...base, ...over }
    return { name, spec, hash: promptHash(spec) }
  })
  // One case a line: a change shows which one.
  const lines = vectors.map((vector) => ` ${JSON.stringify(vector)}`)
  writeFileSync(fileURLToPath(new URL('./prompt_hash.json', import.meta.url)), `[\n${lines.join(',\n')}\n]\n`)
}

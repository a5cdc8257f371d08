// What is published, as users get it: `npm run test:package` packs it first.
import assert from 'node:assert'
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative, sep } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { promisify } from 'node:util'
import { artifacts, installApplication, npm, root, tarballs } from './install.mjs'

const require = createRequire(import.meta.url)
const execute = promisify(execFile)
const { main, binary, platform } = tarballs()
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

describe('what is packed', () => {
  test('the package holds its interface, its loader and its texts', () => {
    const expected = [
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'bin/driftlock.js',
      'binding.js',
      ...filesBelow('cli'),
      'index.d.mts',
      'index.d.ts',
      'index.js',
      'index.mjs',
      'attestations.js',
      'leases.js',
      'opentelemetry.js',
      'package.json',
      'prometheus.js',
    ]
    assert.deepStrictEqual(contents(main), expected.sort())
  })

  test('the platform package holds the binaries and their texts', () => {
    const binaries = [`driftlock-postgres.${platform}.node`, `driftlock.${platform}.node`]
    const expected = ['LICENSE', 'README.md', ...binaries, 'package.json']
    assert.deepStrictEqual(contents(binary), expected)
  })

  test('the binary is small', () => {
    assert.ok(statSync(join(artifacts, `driftlock.${platform}.node`)).size < 4_000_000)
  })

  test('the package asks for the binaries of its own version, for what its command needs, and for nothing else', () => {
    const published = JSON.parse(text(main, 'package.json'))
    const platforms = platformsOf(readFileSync(join(root, 'binding.js'), 'utf8'))
    const expected = Object.fromEntries(platforms.map((name) => [`driftlock-${name}`, manifest.version]))
    assert.deepStrictEqual(sorted(published.optionalDependencies), sorted(expected))
    assert.deepStrictEqual(Object.keys(published.dependencies).sort(), ['cli-progress', 'cli-table3', 'yargs'])
    // The application's own, if it has it.
    assert.deepStrictEqual(Object.keys(published.peerDependencies), ['@opentelemetry/api'])
    assert.deepStrictEqual(published.peerDependenciesMeta, { '@opentelemetry/api': { optional: true } })
    for (const field of ['devDependencies', 'scripts']) {
      assert.strictEqual(published[field], undefined, field)
    }
  })

  test('the repository itself asks for nothing that is not published', () => {
    for (const field of ['optionalDependencies', 'workspaces']) {
      assert.strictEqual(manifest[field], undefined, field)
    }
  })

  test('publint finds nothing', async () => {
    await tool('publint', 'publint', ['--strict', main])
  })

  test('arethetypeswrong finds nothing', async () => {
    await tool('@arethetypeswrong/cli', 'attw', ['--no-emoji', main])
  })
})

describe('what is installed', () => {
  let application
  let command
  before(() => {
    application = installApplication()
    command = join(application, 'node_modules/.bin/driftlock')
  })
  after(() => rmSync(application, { recursive: true }))

  test('import, require and export * see the same names', async () => {
    const names = await Promise.all(['esm.mjs', 'commonjs.cjs'].map(async (file) => JSON.parse(await node(file))))
    assert.deepStrictEqual(names[0], names[1])
    assert.deepStrictEqual(names[0], declaredNames())
  })

  test('the orchestrator-like program type-checks', async (context) => {
    const ways = { bundler: 'preserve', nodenext: 'nodenext', node16: 'node16' }
    for (const [moduleResolution, module] of Object.entries(ways)) {
      for (const type of ['module', 'commonjs']) {
        await context.test(`moduleResolution ${moduleResolution}, type ${type}`, async () => {
          await typeCheck(`tsconfig.${moduleResolution}.${type}.json`, { module, moduleResolution }, type)
        })
      }
    }
  })

  test('everything works', async () => {
    assert.match(await node('smoke.mjs'), /^8 passed, 0 failed$/m)
  })

  test('its command runs', async () => {
    const help = await execute(command, ['--help'], { cwd: application })
    assert.match(help.stdout, /^driftlock COMMAND/)
    const folder = join(application, 'workspace')
    mkdirSync(folder)
    await node(
      '-e',
      `const { PhaseLeaseManager } = require('driftlock')
      const leases = new PhaseLeaseManager('workspace', { agentId: 'me' })
      leases.acquireLease('TASK-1', 'SPEC').then(() => leases.close())`,
    )
    const status = await execute(command, ['status', '--json', '--workspace', folder])
    assert.strictEqual(JSON.parse(status.stdout).leases[0].agentId, 'me')
    const doctor = await execute(command, ['doctor', '--json', '--workspace', folder])
    assert.match(JSON.parse(doctor.stdout).checks[0].found, new RegExp(`driftlock\\.${platform}\\.node$`))
    const bench = await execute(command, ['bench', '--json', '--iterations', '5'])
    assert.strictEqual(JSON.parse(bench.stdout).operations.length, 5)
  })

  test('a missing binary is told with what to do', async () => {
    const folder = join(application, 'node_modules', `driftlock-${platform}`)
    renameSync(folder, `${folder}-away`)
    try {
      const error = await loadError()
      assert.strictEqual(error.code, 'PLATFORM_UNSUPPORTED')
      assert.strictEqual(error.name, 'DriftlockError')
      assert.match(error.message, new RegExp(`driftlock-${platform}, is missing.*--omit=optional`))
      assert.ok(error.cause)
    } finally {
      renameSync(`${folder}-away`, folder)
    }
  })

  test('a binary that can not be loaded is told with the reason', async () => {
    const file = join(application, 'node_modules', `driftlock-${platform}`, `driftlock.${platform}.node`)
    renameSync(file, `${file}-away`)
    try {
      writeFileSync(file, 'no binary')
      const error = await loadError()
      assert.strictEqual(error.code, 'PLATFORM_UNSUPPORTED')
      assert.match(
        error.message,
        new RegExp(`driftlock's binary for ${platform} can't be loaded: .*${platform}\\.node`),
      )
      assert.ok(error.cause)
    } finally {
      renameSync(`${file}-away`, file)
    }
  })

  test('a platform without a binary is told which ones have one', async () => {
    const error = await loadError({ platform: 'freebsd', arch: 'riscv64' })
    assert.strictEqual(error.code, 'PLATFORM_UNSUPPORTED')
    assert.match(error.message, /no binary for freebsd-riscv64\. .*linux-x64-gnu.*win32-x64-msvc.*npm run build/)
    assert.ok(error.cause)
  })

  test('installing without the network leaves out the platforms that do not fit', () => {
    const installed = JSON.parse(npm(['ls', '--json', '--depth=0'], application)).dependencies
    assert.deepStrictEqual(Object.keys(installed).sort(), ['driftlock', `driftlock-${platform}`])
  })

  async function node(...args) {
    return (await execute(process.execPath, args, { cwd: application })).stdout
  }

  /** Loads the package in a process that thinks that it runs elsewhere, and answers the error. */
  async function loadError(elsewhere = {}) {
    const source = `
      for (const [name, value] of Object.entries(${JSON.stringify(elsewhere)})) Object.defineProperty(process, name, { value })
      try { require('driftlock') } catch ({ name, code, message, cause }) {
        console.log(JSON.stringify({ name, code, message, cause: Boolean(cause) }))
      }`
    return JSON.parse(await node('-e', source))
  }

  /** Checks types.ts as part of a package of a type, with no types but the standard library's. */
  async function typeCheck(config, options, type) {
    const compilerOptions = { ...options, target: 'es2022', lib: ['es2022'], types: [], strict: true, noEmit: true }
    writeFileSync(join(application, config), JSON.stringify({ compilerOptions, files: ['types.ts'] }))
    const path = join(application, 'package.json')
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), type }))
    await execute(process.execPath, [require.resolve('typescript/bin/tsc'), '-p', config], { cwd: application }).catch(
      ({ stdout }) => assert.fail(stdout),
    )
  }
})

function contents(tarball) {
  const files = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' }).trim().split('\n')
  return files.map((name) => name.replace('package/', '')).sort()
}

/** The files of a folder of the repository, as they stand in the package. */
function filesBelow(folder) {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath ?? entry.path, entry.name)).replaceAll(sep, '/'))
}

function text(tarball, name) {
  return execFileSync('tar', ['xzOf', tarball, `package/${name}`], { encoding: 'utf8' })
}

function sorted(object) {
  return Object.entries(object).sort(([a], [b]) => (a < b ? -1 : 1))
}

/** The platforms whose packages the loader looks for. */
function platformsOf(source) {
  return [...source.matchAll(/require\('driftlock-(.+?)'\)/g)].map(([, name]) => name)
}

/** The names that index.d.ts declares as values. */
function declaredNames() {
  const types = text(main, 'index.d.ts')
  return [...types.matchAll(/^export declare (?:class|function|const|enum) (\w+)/gm)].map(([, name]) => name).sort()
}

async function tool(packageName, name, args) {
  const folder = join(root, 'node_modules', packageName)
  const { bin } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  const program = join(folder, typeof bin === 'string' ? bin : bin[name])
  await execute(process.execPath, [program, ...args], { cwd: root }).catch(({ stdout, stderr }) =>
    assert.fail(`${stdout}${stderr}`),
  )
}

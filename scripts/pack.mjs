// Packs what is published: driftlock itself and one package for each platform in artifacts/, as artifacts/*.tgz.
//
// The repository's package.json lists no optional dependencies, because npm can't install what isn't published yet, and
// has much that users don't need. Both are put right here, in a copy. Only platforms whose binaries are there are packed;
// `--all` fails if one is missing.
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fail, npm, root } from './lib.mjs'

const artifacts = join(root, 'artifacts')
const stage = join(artifacts, 'stage')
const main = readJson('package.json')
const platforms = readdirSync(join(root, 'npm')).sort()

mkdirSync(artifacts, { recursive: true })
for (const name of readdirSync(artifacts)) if (name.endsWith('.tgz')) rmSync(join(artifacts, name))
rmSync(stage, { recursive: true, force: true })

const isThere = (binary) => existsSync(join(artifacts, binary))
const missing = platforms.filter((platform) => !binariesOf(platform).every(isThere))
if (missing.length === platforms.length) fail('no binary in artifacts/: build one first (npm run build:portable)')
if (missing.length > 0 && process.argv.includes('--all')) fail(`no binary in artifacts/ for ${missing.join(', ')}`)

for (const platform of platforms) {
  const folder = join(root, 'npm', platform)
  const manifest = readJson(`npm/${platform}/package.json`)
  if (manifest.version !== main.version) fail(`npm/${platform} has version ${manifest.version}, not ${main.version}`)
  if (missing.includes(platform)) continue
  pack(manifest, (to) => {
    copyFileSync(join(folder, 'README.md'), join(to, 'README.md'))
    for (const binary of binariesOf(platform)) copyFileSync(join(artifacts, binary), join(to, binary))
  })
}

const { devDependencies, scripts, napi, allowScripts, ...published } = main
const names = platforms.map((platform) => `${main.name}-${platform}`)
published.optionalDependencies = Object.fromEntries(names.map((name) => [name, main.version]))
pack(published, (to) => {
  for (const name of [...main.files, 'README.md', 'CHANGELOG.md']) {
    if (existsSync(join(root, name))) cpSync(join(root, name), join(to, name), { recursive: true })
  }
})
rmSync(stage, { recursive: true })

function pack(manifest, fill) {
  const to = join(stage, manifest.name)
  mkdirSync(to, { recursive: true })
  writeFileSync(join(to, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  copyFileSync(join(root, 'LICENSE'), join(to, 'LICENSE'))
  fill(to)
  npm(['pack', '--silent', '--ignore-scripts', '--pack-destination', artifacts], { cwd: to })
}

/** What Node loads, and the driver for PostgreSQL, which that loads. */
function binariesOf(platform) {
  return [`${main.napi.binaryName}.${platform}.node`, `${main.napi.binaryName}-postgres.${platform}.node`]
}

function readJson(path) {
  return JSON.parse(readFileSync(join(root, path), 'utf8'))
}

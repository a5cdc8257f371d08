// Programs from Python's package index that only releases and checks need, kept in target/tools.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { root, run } from './lib.mjs'

/**
 * Installs what a requirements file in scripts/ lists, unless that is done already.
 *
 * @returns an environment in whose PATH the programs are
 */
export function toolsOf(requirements) {
  const file = join(root, 'scripts', requirements)
  const folder = join(root, 'target/tools', requirements.replace('.txt', ''))
  const stamp = join(folder, 'installed.txt')
  const wanted = readFileSync(file, 'utf8')
  if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
    mkdirSync(folder, { recursive: true })
    run('python3', ['-m', 'venv', '--clear', folder])
    const pip = [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      '--no-deps',
      '--only-binary',
      ':all:',
    ]
    run(join(folder, 'bin/python3'), [...pip, '--require-hashes', '-r', file])
    writeFileSync(stamp, wanted)
  }
  return { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` }
}

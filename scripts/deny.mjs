// Checks the crates' licences, sources and duplicates, as deny.toml says; with --advisories also for known weaknesses,
// whose list has to be fetched.
import { outputOf, run } from './lib.mjs'
import { toolsOf } from './tools.mjs'

const installed = outputOf('cargo', ['deny', '--version'])
const env = installed ? process.env : toolsOf('check-tools.txt')
const checks = ['licenses', 'bans', 'sources']
if (process.argv.includes('--advisories')) checks.push('advisories')
run('cargo', ['deny', '--locked', '--all-features', 'check', ...checks], { env })

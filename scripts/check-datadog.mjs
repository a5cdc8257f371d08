// Checks the DataDog dashboard by the models of DataDog's own client.
import { run } from './lib.mjs'
import { toolsOf } from './tools.mjs'

const env = toolsOf('datadog-tools.txt')
const dashboards = process.argv.length > 2 ? process.argv.slice(2) : ['monitoring/datadog/dashboard.json']
run('python3', ['scripts/check-datadog.py', ...dashboards], { env })

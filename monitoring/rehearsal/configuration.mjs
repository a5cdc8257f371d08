// The committed configuration, with other addresses and a faster clock.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, stringify } from 'yaml'

const committed = (/** @type {string} */ path) => parse(readFileSync(join(import.meta.dirname, '..', path), 'utf8'))

/**
 * @param {{ rules: string, exporter: string, alertmanager: string }} places
 * @returns {string} prometheus.yml, with samples each second
 */
export function prometheusConfiguration({ rules, exporter, alertmanager }) {
  const configuration = committed('prometheus/prometheus.yml')
  Object.assign(configuration.global, { scrape_interval: '1s', evaluation_interval: '1s', scrape_timeout: '1s' })
  configuration.rule_files = [rules]
  configuration.alerting.alertmanagers[0].static_configs[0].targets = [alertmanager]
  configuration.scrape_configs[0].static_configs[0].targets = [exporter]
  return stringify(configuration)
}

/**
 * @param {{ shortFor?: boolean, window?: string }} [changes] whether alerts wait only as long as a busy
 * machine may keep a scrape waiting, and what all windows are instead of what they are
 * @returns {string} driftlock.rules.yml
 */
export function alertRules({ shortFor = false, window } = {}) {
  const rules = committed('prometheus/driftlock.rules.yml')
  for (const group of rules.groups) {
    for (const rule of group.rules) {
      if (shortFor && rule.for !== undefined) rule.for = '5s'
      if (window !== undefined) rule.expr = rule.expr.replace(/\[\w+\]/g, `[${window}]`)
    }
  }
  return stringify(rules)
}

/**
 * @param {{ slackUrlFile: string, pagerdutyKeyFile: string, pagerdutyUrl: string }} places
 * @returns {string} alertmanager.yml, which groups for a second only
 */
export function alertmanagerConfiguration({ slackUrlFile, pagerdutyKeyFile, pagerdutyUrl }) {
  const configuration = committed('alertmanager/alertmanager.yml')
  Object.assign(configuration.global, { slack_api_url_file: slackUrlFile, pagerduty_url: pagerdutyUrl })
  for (const route of [configuration.route, ...configuration.route.routes]) {
    if (route.group_wait !== undefined) route.group_wait = '1s'
    if (route.group_interval !== undefined) route.group_interval = '1s'
  }
  for (const { pagerduty_configs = [] } of configuration.receivers) {
    for (const one of pagerduty_configs) one.routing_key_file = pagerdutyKeyFile
  }
  return stringify(configuration)
}

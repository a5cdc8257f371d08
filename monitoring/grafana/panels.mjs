// What the dashboard shows. Grafana's JSON is made from it (build.mjs), and the picture for the README (picture.mjs).

/**
 * @typedef {object} Query
 * @property {string} expr
 * @property {string} [legend] in Prometheus' notation; without it the panel has one line
 *
 * @typedef {object} Panel
 * @property {string} title
 * @property {string} description
 * @property {'stat' | 'lines' | 'timeline'} kind
 * @property {'short' | 'percentunit' | 's' | 'bytes' | 'opm'} unit
 * @property {number} [red] the value from which a number is red
 * @property {string} [none] what a number says where there is nothing to count
 * @property {Query[]} queries
 */

const at = 'job="driftlock", instance=~"$instance"'

/** @type {(title: string, level: number, unit: Panel['unit'], expr: string, description: string) => Panel} */
const level = (title, red, unit, expr, description) => ({
  title,
  description,
  kind: 'stat',
  unit,
  red,
  none: 'nothing counted',
  queries: [{ expr: `max(${expr}{${at}})` }],
})

/** @type {(title: string, unit: Panel['unit'], description: string, ...queries: Query[]) => Panel} */
const lines = (title, unit, description, ...queries) => ({ title, description, kind: 'lines', unit, queries })

/** Events a minute, by a label. @type {(metric: string, label: string, matchers?: string) => Query} */
const perMinute = (metric, label, matchers = '') => ({
  expr: `60 * sum by (${label}) (rate(${metric}{${at}${matchers}}[$__rate_interval]))`,
  legend: `{{${label}}}`,
})

/** @type {{ title: string, panels: Panel[] }[]} */
export const rows = [
  {
    title: 'Service levels',
    panels: [
      level(
        'Evidence gates failed, 1 h',
        0.01,
        'percentunit',
        'instance:driftlock_evidence_gates_failed:ratio1h',
        'Share of the evidence gates of the last hour that failed. The level is 1 %.',
      ),
      level(
        'High-severity drift, 5 min',
        1,
        'short',
        'instance_phase:driftlock_high_drift:increase5m',
        'Prompts and personas in VERIFY, REVIEW and MONITOR that differed from their baseline. The level is 0.',
      ),
      level(
        'Leases contended, 5 min',
        0.05,
        'percentunit',
        'instance:driftlock_lease_contended:ratio5m',
        'Share of the attempts to acquire a lease that were refused because it was held. The level is 5 %.',
      ),
      level(
        'Contentions a minute',
        10,
        'short',
        'instance:driftlock_lease_contended:per_minute5m',
        'Attempts to acquire a lease that were refused because it was held. The level is 10 a minute.',
      ),
      level(
        'Phases skipped, 5 min',
        1,
        'short',
        'instance:driftlock_phase_skips:increase5m',
        'Attempts to skip a phase. The level is 0.',
      ),
      level(
        'Validations failed, 10 min',
        0.02,
        'percentunit',
        'instance:driftlock_phase_validations_failed:ratio10m',
        'Share of the phase validations that failed. The level is 2 %.',
      ),
    ],
  },
  {
    title: 'Alerts',
    panels: [
      {
        title: 'Alerts that fire',
        description: 'Each alert of the rules, while it fires.',
        kind: 'timeline',
        unit: 'short',
        red: 1,
        queries: [
          {
            expr: 'sum by (alertname) (ALERTS{alertname=~"Driftlock.+", alertstate="firing"})',
            legend: '{{alertname}}',
          },
        ],
      },
    ],
  },
  {
    title: 'Leases',
    panels: [
      lines(
        'Acquisitions a minute',
        'opm',
        'Attempts to acquire a lease, of all processes, by their result.',
        perMinute('driftlock_lease_acquisitions_total', 'result'),
      ),
      lines(
        'Leases and waiters',
        'short',
        'Leases that are held now, those that have ended without a release, and agents that wait for one.',
        { expr: `sum by (state) (driftlock_leases{${at}})`, legend: '{{state}}' },
        { expr: `sum(driftlock_lease_waiters{${at}})`, legend: 'waiters' },
      ),
      lines(
        'Age and length of holds',
        's',
        'The age of the oldest active lease, and how long the leases that ended were held on average.',
        { expr: `max(driftlock_lease_oldest_age_seconds{${at}})`, legend: 'oldest active lease' },
        {
          expr:
            `sum(rate(driftlock_lease_hold_seconds_total{${at}}[$__rate_interval])) ` +
            `/ (sum(rate(driftlock_lease_holds_total{${at}}[$__rate_interval])) > 0)`,
          legend: 'mean of ended holds',
        },
      ),
      lines(
        'Renewals, takeovers and forced releases a minute',
        'opm',
        'Renewals by their result, leases taken over by their reason, and leases released by an operator.',
        {
          expr: `60 * sum by (result) (rate(driftlock_lease_renewals_total{${at}}[$__rate_interval]))`,
          legend: 'renewal {{result}}',
        },
        {
          expr: `60 * sum by (reason) (rate(driftlock_lease_takeovers_total{${at}}[$__rate_interval]))`,
          legend: 'takeover, {{reason}}',
        },
        {
          expr: `60 * sum(rate(driftlock_lease_forced_releases_total{${at}}[$__rate_interval]))`,
          legend: 'forced release',
        },
      ),
    ],
  },
  {
    title: 'Prompts, phases and gates',
    panels: [
      lines(
        'Attestations a minute',
        'opm',
        'Prompts that were attested, by the severity of what was found.',
        perMinute('driftlock_attestations_total', 'severity'),
      ),
      lines(
        'Drift a minute',
        'opm',
        'Prompts and personas that differed from their baseline, by phase.',
        perMinute('driftlock_drift_total', 'phase'),
      ),
      lines(
        'Transitions a minute',
        'opm',
        'Entries of the ledger, by the phase that was entered.',
        perMinute('driftlock_ledger_entries_total', 'phase'),
      ),
      lines(
        'Gates and validations a minute',
        'opm',
        'Evidence gates and phase validations, by their result.',
        {
          expr: `60 * sum by (result) (rate(driftlock_evidence_gates_total{${at}}[$__rate_interval]))`,
          legend: 'gate {{result}}',
        },
        {
          expr: `60 * sum by (result) (rate(driftlock_phase_validations_total{${at}}[$__rate_interval]))`,
          legend: 'validation {{result}}',
        },
      ),
    ],
  },
  {
    title: 'The monitoring itself',
    panels: [
      {
        title: 'Exporter and database',
        description: 'Whether Prometheus can read the exporter, and the exporter the lease database: 1 is yes.',
        kind: 'timeline',
        unit: 'short',
        queries: [
          { expr: `min(up{${at}})`, legend: 'exporter' },
          { expr: `min(driftlock_store_up{${at}})`, legend: 'database' },
        ],
      },
      lines('Unread bytes', 'bytes', 'What the exporter has not read yet of each log.', {
        expr: `sum by (file) (driftlock_unread_bytes{${at}})`,
        legend: '{{file}}',
      }),
      lines('Damaged lines', 'short', 'Lines that could not be read, since the exporter first started.', {
        expr: `sum by (file) (driftlock_malformed_lines_total{${at}})`,
        legend: '{{file}}',
      }),
    ],
  },
]

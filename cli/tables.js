'use strict'

const { colour, table } = require('./output.js')
const { duration, shown } = require('./text.js')

/** @param {import('./snapshot.js').LeaseShown[]} leases */
function leaseTable(leases) {
  const rows = leases.map((lease) => [
    shown(lease.taskId),
    shown(lease.phase, 20),
    shown(lease.agentId, 40),
    shown(lease.host ?? '-', 30),
    String(lease.pid ?? '-'),
    duration(lease.heldMs),
    lease.expired ? colour('yellow', 'expired') : duration(lease.remainingMs),
    String(lease.waiters),
  ])
  return table(['TASK', 'PHASE', 'HOLDER', 'HOST', '#PID', '#HELD', '#REMAINING', '#WAITERS'], rows)
}

/** @param {{fromPhase: string | null, toPhase: string}} entry */
const transition = ({ fromPhase, toPhase }) => `${shown(fromPhase ?? '(start)', 20)} → ${shown(toPhase, 20)}`

module.exports = { leaseTable, transition }

'use strict'

const { extendAttestations } = require('./attestations.js')
const { extendLeases } = require('./leases.js')

/** The base of all errors of this package. */
class DriftlockError extends Error {
  constructor(code, message, options) {
    super(message, options)
    this.name = new.target.name
    this.code = code
  }
}

class LeaseError extends DriftlockError {}
class AttestationError extends DriftlockError {}
class LedgerError extends DriftlockError {}
class FileLockError extends DriftlockError {}
class TelemetryError extends DriftlockError {}

const errorClasses = { DriftlockError, LeaseError, AttestationError, LedgerError, FileLockError, TelemetryError }

const binding = loadBinding()
binding.__setErrorFactory((className, code, message) => new errorClasses[className](code, message))

function loadBinding() {
  try {
    return require('./binding.js')
  } catch ({ message, cause }) {
    throw new DriftlockError('PLATFORM_UNSUPPORTED', message, { cause })
  }
}

async function withFileLock(lockPath, operation, options) {
  binding.__checkLockArguments(lockPath, options)
  if (typeof operation !== 'function') {
    throw new FileLockError('INVALID_ARGUMENT', `operation must be a function, got ${typeof operation}`)
  }
  if (!(await binding.acquireLock(lockPath, options))) {
    binding.__countError('LOCK_NOT_ACQUIRED')
    throw new FileLockError('LOCK_NOT_ACQUIRED', `Failed to acquire lock: ${lockPath}`)
  }
  try {
    return await operation()
  } finally {
    await binding.releaseLock(lockPath)
  }
}

/** An event must reach somebody, and what the application's function throws must not end the process. */
function callLogger(logger, event) {
  try {
    logger(JSON.parse(event))
  } catch {
    process.stderr.write(`${event}\n`)
  }
}

// Few programs ask for their metrics, so the two files for it are loaded by those that do.
function metricsText() {
  const { familiesOf, toPrometheus } = require('./prometheus.js')
  return toPrometheus(familiesOf(binding.metrics()))
}

function registerOpenTelemetry(options) {
  const { register } = require('./opentelemetry.js')
  return register(options, binding.metrics, DriftlockError)
}

function setLogger(logger) {
  if (logger != null && typeof logger !== 'function') {
    throw new DriftlockError('INVALID_ARGUMENT', `logger must be a function or null, got ${typeof logger}`)
  }
  binding.__setLogSink(logger == null ? null : (event) => callLogger(logger, event))
}

extendLeases(binding, LeaseError)
extendAttestations(binding)

exports.PhaseLeaseManager = binding.PhaseLeaseManager
exports.PromptAttestationManager = binding.PromptAttestationManager
exports.PhaseLedger = binding.PhaseLedger
exports.TelemetryRecorder = binding.TelemetryRecorder
exports.acquireLock = binding.acquireLock
exports.releaseLock = binding.releaseLock
exports.withFileLock = withFileLock
exports.fencedWriteFile = binding.fencedWriteFile
exports.resolveWorkspace = binding.resolveWorkspace
exports.metrics = binding.metrics
exports.metricsText = metricsText
exports.registerOpenTelemetry = registerOpenTelemetry
exports.setLogger = setLogger
exports.setLogLevel = binding.setLogLevel
exports.DriftlockError = DriftlockError
exports.LeaseError = LeaseError
exports.AttestationError = AttestationError
exports.LedgerError = LedgerError
exports.FileLockError = FileLockError
exports.TelemetryError = TelemetryError

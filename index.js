'use strict'

const { basename, dirname, join } = require('node:path')
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

/** The platforms for which a binary is published. */
const PLATFORMS = [
  'linux-x64-gnu',
  'linux-x64-musl',
  'linux-arm64-gnu',
  'linux-arm64-musl',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64-msvc',
]

const binding = loadBinding()
binding.__setErrorFactory((className, code, message) => new errorClasses[className](code, message))
tellWhereDriverIs()

function loadBinding() {
  try {
    return require('./binding.js')
  } catch (cause) {
    const platform = thisPlatform()
    const broken = whyNotLoaded(cause)
    const message = !PLATFORMS.includes(platform)
      ? `driftlock has no binary for ${platform}. Binaries exist for ${PLATFORMS.join(', ')}; ` +
        'elsewhere build it from source with Rust: npm run build'
      : broken
        ? `driftlock's binary for ${platform} can't be loaded: ${broken}`
        : `driftlock's binary for ${platform}, the package driftlock-${platform}, is missing. Install again on this ` +
          'machine and with optional dependencies: no --omit=optional, no node_modules copied from another platform'
    throw new DriftlockError('PLATFORM_UNSUPPORTED', message, { cause })
  }
}

/** The driver for PostgreSQL lies beside the binary, and is loaded only if a store needs it. */
function tellWhereDriverIs() {
  const native = require.cache?.[require.resolve('./binding.js')]?.children?.find(({ id }) => id.endsWith('.node'))
  if (!native) return
  binding.__setPostgresDriver(join(dirname(native.id), basename(native.id).replace('driftlock', 'driftlock-postgres')))
}

/** Why a binary that is there was refused, in the system's words: it wants a newer C library, for example. */
function whyNotLoaded(error) {
  // The loader's own first error only says that nothing was found; its causes are one for each place where it looked.
  for (let reason = error.cause; reason; reason = reason.cause) {
    if (!reason.message.startsWith('Cannot find module')) return reason.message
  }
  return undefined
}

function thisPlatform() {
  const { platform, arch } = process
  if (platform === 'win32') return `${platform}-${arch}-msvc`
  if (platform !== 'linux') return `${platform}-${arch}`
  // Without this the report resolves the addresses of open connections, which can take seconds.
  process.report.excludeNetwork = true
  return `${platform}-${arch}-${process.report.getReport().header.glibcVersionRuntime ? 'gnu' : 'musl'}`
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

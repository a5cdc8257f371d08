'use strict'

// What PhaseLeaseManager has beyond the native calls: leases that are held, and events.

const { EventEmitter } = require('node:events')

/** Node 20 has the symbol since 20.4; whoever needs it earlier defines it before this package is loaded. */
const asyncDispose = Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose')

/** @param {typeof import('./binding.js')} binding */
function extendLeases(binding, LeaseError) {
  const { PhaseLeaseManager } = binding
  /** The leases of this thread that are held, by manager, for its orderly end. */
  const held = new Map()

  const remember = (manager, lease) => held.set(manager, (held.get(manager) ?? new Set()).add(lease))
  const forget = (manager, lease) => {
    const leases = held.get(manager)
    leases?.delete(lease)
    if (leases?.size === 0) held.delete(manager)
  }
  let releasesAtExit = false

  class HeldLease {
    #native
    #manager
    #controller = new AbortController()

    constructor(native, manager, { taskId, phase }) {
      this.#native = native
      this.#manager = manager
      this.leaseId = binding.__holdLeaseId(native)
      this.fence = Object.freeze({
        workspace: manager.workspace,
        ...(manager.store === 'sqlite' ? {} : { store: manager.store }),
        taskId,
        phase,
        token: binding.__holdToken(native),
        leaseId: this.leaseId,
      })
      remember(manager, this)
      releaseAtExit()
    }

    get taskId() {
      return this.fence.taskId
    }

    get phase() {
      return this.fence.phase
    }

    get signal() {
      return this.#controller.signal
    }

    get expiresAt() {
      return binding.__holdExpiresAt(this.#native)
    }

    remainingMs() {
      return binding.__holdRemainingMs(this.#native)
    }

    progress() {
      binding.__holdProgress(this.#native)
    }

    async release() {
      const released = await binding.__holdRelease(this.#native)
      forget(this.#manager, this)
      return released
    }

    async advance(phase, options) {
      const [next] = await hold(this.#manager, [{ taskId: this.taskId, phase }], options, this.#native)
      forget(this.#manager, this)
      return next
    }

    [asyncDispose]() {
      return this.release().then(() => {})
    }

    __lose(error) {
      forget(this.#manager, this)
      this.#controller.abort(error)
    }

    __releaseAtExit() {
      binding.__holdReleaseAtExit(this.#native)
    }
  }

  class HeldLeases {
    constructor(leases) {
      this.leases = Object.freeze(leases)
      const controller = new AbortController()
      for (const { signal } of leases) {
        if (signal.aborted) controller.abort(signal.reason)
        else signal.addEventListener('abort', () => controller.abort(signal.reason), { once: true })
      }
      this.signal = controller.signal
    }

    async release() {
      const released = await Promise.all(this.leases.map((lease) => lease.release()))
      return released.every((released) => released)
    }

    [asyncDispose]() {
      return this.release().then(() => {})
    }
  }

  function releaseAtExit() {
    if (releasesAtExit) return
    releasesAtExit = true
    process.once('exit', () => {
      for (const leases of held.values()) for (const lease of leases) lease.__releaseAtExit()
    })
  }

  const copyKey = (key) => (key && typeof key === 'object' ? { taskId: key.taskId, phase: key.phase } : key)

  async function hold(manager, keys, options, instead) {
    const { signal } = options ?? {}
    if (signal !== undefined && !(signal instanceof AbortSignal)) {
      throw new LeaseError('INVALID_ARGUMENT', `signal must be an AbortSignal, got ${typeof signal}`)
    }
    signal?.throwIfAborted()
    // The caller may change its list while this waits.
    const asked = Array.isArray(keys) ? keys.map(copyKey) : keys
    const cancellation = binding.__newCancellation()
    const cancel = () => binding.__cancel(cancellation)
    signal?.addEventListener('abort', cancel, { once: true })
    const leases = []
    const lostEarly = []
    const lost = (position, code, message) => {
      const error = new LeaseError(code, message)
      if (leases[position]) leases[position].__lose(error)
      else lostEarly.push([position, error])
    }
    const refused = (position, holder) => tellRefusal(manager, asked[position], holder)
    try {
      const natives = await manager.__hold(asked, options, cancellation, lost, refused, instead)
      natives.forEach((native, i) => {
        leases.push(new HeldLease(native, manager, asked[i]))
      })
      for (const [position, error] of lostEarly) leases[position]?.__lose(error)
      if (signal?.aborted) {
        await Promise.all(leases.map((lease) => lease.release()))
        throw signal.reason
      }
      return leases
    } catch (error) {
      throw signal?.aborted ? signal.reason : error
    } finally {
      signal?.removeEventListener('abort', cancel)
    }
  }

  const events = new WeakMap()
  const EVENTS = ['contention', 'takeover', 'expiry', 'forced-release']

  function emitterOf(manager, event) {
    if (!EVENTS.includes(event)) {
      throw new LeaseError('INVALID_ARGUMENT', `event must be one of ${EVENTS.join(', ')}, got ${String(event)}`)
    }
    let emitter = events.get(manager)
    if (!emitter) {
      emitter = new EventEmitter()
      events.set(manager, emitter)
      manager.__watchEvents((event) => emitter.emit(event.kind, event))
    }
    return emitter
  }

  /** Refusals are not written down, so each manager tells its own. */
  function tellRefusal(manager, { taskId, phase }, holder, expiresIn) {
    const kind = 'contention'
    events.get(manager)?.emit(kind, { kind, taskId, phase, holder, expiresIn })
  }

  const { acquireLease, advanceLease, close } = PhaseLeaseManager.prototype

  /** Has the manager tell of what is refused by an answer. */
  function watchAnswers(manager) {
    const watched = async (answer, taskId, phase) => {
      const result = await answer
      if (!result.acquired && result.holder !== undefined) {
        tellRefusal(manager, { taskId, phase }, result.holder, result.expiresIn)
      }
      return result
    }
    manager.acquireLease = async (taskId, phase) => watched(acquireLease.call(manager, taskId, phase), taskId, phase)
    manager.advanceLease = async (taskId, from, to) => watched(advanceLease.call(manager, taskId, from, to), taskId, to)
  }

  Object.assign(PhaseLeaseManager.prototype, {
    async hold(taskId, phase, options) {
      const [lease] = await hold(this, [{ taskId, phase }], options)
      return lease
    },

    async holdMany(keys, options) {
      return new HeldLeases(await hold(this, keys, options))
    },

    close() {
      close.call(this)
      held.delete(this)
    },

    on(event, listener) {
      emitterOf(this, event).on(event, listener)
      if (event === 'contention' && !Object.hasOwn(this, 'acquireLease')) watchAnswers(this)
      return this
    },

    off(event, listener) {
      emitterOf(this, event).off(event, listener)
      return this
    },
  })
}

module.exports = { extendLeases }

'use strict'

// Metric families as StatsD takes them, with tags as DogStatsD has them, over UDP.

const { createSocket } = require('node:dgram')
const { lookup } = require('node:dns/promises')
const { CommandError } = require('../exit.js')
const { shown } = require('../text.js')

/** What fits into one packet on most networks, the internet among them. */
const LONGEST_DATAGRAM = 1432

/** @typedef {import('./exporter.js').Family} Family */

/** Nothing in a name or tag may be taken for a separator. @param {string} text */
const clean = (text) => text.replace(/[^\w./-]/g, '_')

/**
 * One line for each series that has something to tell: counters by how much they rose, gauges as they are.
 *
 * @param {Family[]} families
 */
function statsdLines(families) {
  return families.flatMap(({ name, type, samples }) => {
    const metric = `driftlock.${clean(name.replace(/_total$/, ''))}`
    const told = type === 'counter' ? samples.filter(({ value }) => value > 0) : samples
    return told.map(({ labels, value }) => {
      const tags = Object.entries(labels).map(([label, value]) => `${clean(label)}:${clean(value)}`)
      return `${metric}:${value}|${type === 'counter' ? 'c' : 'g'}${tags.length > 0 ? `|#${tags.join(',')}` : ''}`
    })
  })
}

/**
 * Puts as many lines into a datagram as fit.
 *
 * @param {string[]} lines
 */
function datagramsOf(lines) {
  /** @type {string[]} */
  const datagrams = []
  for (const line of lines) {
    const last = datagrams.at(-1)
    const joined = `${last}\n${line}`
    if (last !== undefined && Buffer.byteLength(joined) <= LONGEST_DATAGRAM) datagrams[datagrams.length - 1] = joined
    else datagrams.push(line)
  }
  return datagrams
}

/** Sends to one StatsD server. */
class StatsdClient {
  #socket
  #address

  /**
   * @param {import('node:dgram').Socket} socket
   * @param {{host: string, port: number}} address
   */
  constructor(socket, address) {
    this.#socket = socket
    this.#address = address
    // What a server that is down answers with arrives here later.
    socket.on('error', () => {})
  }

  /** @param {{host: string, port: number}} address */
  static async open(address) {
    try {
      const { family } = await lookup(address.host)
      return new StatsdClient(createSocket(family === 6 ? 'udp6' : 'udp4'), address)
    } catch (error) {
      const reason = /** @type {Error} */ (error).message
      throw new CommandError(
        'NO_STATSD',
        `Can't find the StatsD server ${shown(address.host)}: ${reason}. Check --statsd`,
      )
    }
  }

  /**
   * Sends each family's lines. UDP tells nobody whether they arrive.
   *
   * @param {Family[]} families
   */
  async send(families) {
    const { host, port } = this.#address
    for (const datagram of datagramsOf(statsdLines(families))) {
      await new Promise((resolve, reject) => {
        this.#socket.send(datagram, port, host, (error) => (error ? reject(error) : resolve(undefined)))
      })
    }
  }

  close() {
    this.#socket.close()
  }
}

module.exports = { LONGEST_DATAGRAM, StatsdClient, datagramsOf, statsdLines }

/**
 * Something that is measured for each candidate.
 * @typedef {object} Case
 * @property {string} name
 * @property {(api: Api, folder: string, size: number) => Operation | Promise<Operation>} setUp in a workspace that
 * holds so many records, baselines and ledger entries, or leases
 * @property {Record<string, (folder: string) => Operation>} [floors] the least that it could cost, and what else
 * somebody would use
 * @property {number} [iterations] if they are not as many as for all others
 */

/** @typedef {import('../candidates.mjs').Api} Api */
/** @typedef {import('../measure.mjs').Operation} Operation */

export {}

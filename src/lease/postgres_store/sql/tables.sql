-- The tables. A later version adds columns that are nullable or have defaults, and nothing else: programs of this
-- version go on working beside it.

-- A key is the SHA-256 of its task and phase, which may be longer than an index takes. A released lease leaves no row.
CREATE TABLE IF NOT EXISTS @schema@.leases (
  key bytea PRIMARY KEY,
  task bytea NOT NULL,
  phase bytea NOT NULL,
  lock bigint NOT NULL,
  lease_id uuid NOT NULL,
  agent bytea NOT NULL,
  token bigint NOT NULL,
  acquired_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  renewed_count bigint NOT NULL DEFAULT 0,
  -- The renewal that was counted last.
  renewal uuid,
  process text NOT NULL,
  boot_id text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
-- For releasing all of an agent; a hash, because names of agents have any length.
CREATE INDEX IF NOT EXISTS leases_agent ON @schema@.leases USING hash (agent);

-- Never goes back: each value is in the log before the transaction that uses it is acknowledged.
CREATE SEQUENCE IF NOT EXISTS @schema@.tokens;
CREATE SEQUENCE IF NOT EXISTS @schema@.tickets;

-- One row for each key of a claim that waits.
CREATE TABLE IF NOT EXISTS @schema@.waiters (
  key bytea NOT NULL,
  ticket bigint NOT NULL,
  claim uuid NOT NULL,
  agent bytea NOT NULL,
  process text NOT NULL,
  until_at timestamptz NOT NULL,
  PRIMARY KEY (key, ticket)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX IF NOT EXISTS waiters_process ON @schema@.waiters (process);
CREATE INDEX IF NOT EXISTS waiters_ticket ON @schema@.waiters (ticket);

-- Since when keys are free that somebody waits for. By itself, so that a hand-over costs the same however many wait.
CREATE TABLE IF NOT EXISTS @schema@.vacancies (
  key bytea PRIMARY KEY,
  since timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);

CREATE TABLE IF NOT EXISTS @schema@.events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  at timestamptz NOT NULL,
  task bytea NOT NULL,
  phase bytea NOT NULL,
  agent bytea NOT NULL,
  token bigint NOT NULL,
  by bytea,
  reason bytea,
  -- The lease as it was, and by which request it was ended: so the request can be answered again.
  request uuid,
  lease_id uuid NOT NULL,
  acquired_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  renewed_count bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS events_kind ON @schema@.events (kind, id);

-- One row for each connection of a client's pool: the last request that left no other trace, with its answer, and the
-- finished holds, which are counted here so that no two clients write one row.
CREATE TABLE IF NOT EXISTS @schema@.sessions (
  session uuid PRIMARY KEY,
  request uuid,
  answer bigint,
  finished_holds bigint NOT NULL DEFAULT 0,
  finished_hold_ms bigint NOT NULL DEFAULT 0,
  used_at timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- What clients count by themselves: totals, so that writing one twice counts it once.
CREATE TABLE IF NOT EXISTS @schema@.figures (
  source uuid NOT NULL,
  name text NOT NULL,
  value bigint NOT NULL,
  counted_at timestamptz NOT NULL,
  PRIMARY KEY (source, name)
) WITH (fillfactor = 50);

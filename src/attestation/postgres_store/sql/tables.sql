-- Attestations. A later version adds columns that are nullable or have defaults, and nothing else.

-- What prompts are compared with. A key is the SHA-256 of its task and phase, which may be longer than an index takes.
CREATE TABLE IF NOT EXISTS @schema@.baselines (
  key bytea PRIMARY KEY,
  task bytea NOT NULL,
  phase bytea NOT NULL,
  hash bytea NOT NULL,
  version bigint NOT NULL,
  updated_at bytea NOT NULL,
  persona_hash bytea,
  updated_by bytea,
  reason bytea,
  version_tag bytea
);

-- One row a reset.
CREATE TABLE IF NOT EXISTS @schema@.baseline_updates (
  number bigint GENERATED ALWAYS AS IDENTITY,
  -- So that a call that is made again resets nothing again.
  request uuid PRIMARY KEY,
  at timestamptz NOT NULL,
  task bytea,
  phase bytea,
  hash bytea,
  version bigint,
  updated_at bytea,
  updated_by bytea,
  reason bytea,
  version_tag bytea,
  -- The whole record, of a reset that was not made here.
  line bytea
);

-- The records: at 10,000,000 of them about 200 bytes a row, and three indexes of which two grow at their end, so that
-- appending touches few pages. Statistics need none of them.
CREATE TABLE IF NOT EXISTS @schema@.attestations (
  -- Orders the records of a task. Gaps mean nothing.
  number bigint GENERATED ALWAYS AS IDENTITY,
  -- So that a call that is made again records nothing again. Ids are numbered by time: the index grows at its end.
  id uuid PRIMARY KEY,
  at timestamptz NOT NULL,
  -- 64 bits of the task's SHA-256: a task may be longer than an index takes. Whoever reads a record looks whose it is.
  task_key bigint NOT NULL,
  baseline_version bigint,
  is_first boolean,
  task bytea,
  phase bytea,
  prompt_hash bytea,
  -- The baseline's hash, if it is another one.
  drifted_from bytea,
  -- How much that matters.
  severity bytea,
  -- The baseline's persona, if both have one and it is another.
  persona_before bytea,
  persona_hash bytea,
  persona_summary bytea,
  agent_type bytea,
  model_version bytea,
  -- The whole record, of one that was not made here.
  line bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- For the history of a task.
CREATE INDEX IF NOT EXISTS attestations_task ON @schema@.attestations (task_key, number);
-- For what is old enough to be removed, and what is new. Grows at its end.
CREATE INDEX IF NOT EXISTS attestations_at ON @schema@.attestations (at);

-- How many records there ever were: one row for each client of the last hour and severity, so that no two clients write one
-- row, and those of before added up under a client of zeros.
CREATE TABLE IF NOT EXISTS @schema@.attestation_counts (
  source uuid NOT NULL,
  severity bytea NOT NULL,
  records bigint NOT NULL,
  drifted bigint NOT NULL,
  counted_at timestamptz NOT NULL,
  PRIMARY KEY (source, severity)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

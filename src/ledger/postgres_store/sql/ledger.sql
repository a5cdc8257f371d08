-- The ledger. Only grows: no row is ever changed, so there is nothing to clean up, however long another transaction lasts.
CREATE TABLE IF NOT EXISTS @schema@.entries (
  -- From 1, without gaps.
  number bigint PRIMARY KEY,
  -- 64 bits of the task's SHA-256: a task may be longer than an index takes. Whoever reads a line looks whose it is.
  task_key bigint NOT NULL,
  -- How many different tasks there are up to here.
  tasks bigint NOT NULL,
  -- Which call has appended the first of its entries.
  request uuid,
  -- What the next entry is chained to, as it stands in the line.
  hash bytea NOT NULL,
  -- The entry as a line of JSON, byte for byte as it would stand in a file.
  line bytea NOT NULL
);
-- For the history of a task and its last entry.
CREATE INDEX IF NOT EXISTS entries_task ON @schema@.entries (task_key, number);
-- So that a call that is made again appends nothing again. Requests are numbered by time: the index grows at its end.
CREATE UNIQUE INDEX IF NOT EXISTS entries_request ON @schema@.entries (request) WHERE request IS NOT NULL;

-- Appends entries, each chained onto the one before it, and gives their lines. Of each entry come the parts of its line
-- behind the hashes: the transition, the persona's hash (a JSON string, or null) and the details. A call that is made
-- again with its request gets the same lines. With a fence it is refused unless the fence's lease is the newest one of
-- its key, which stays that until the end of the transaction.
CREATE OR REPLACE FUNCTION @schema@.append_1(
  p_request uuid, p_is_repeat boolean, p_ids uuid[], p_task_keys bigint[], p_cores bytea[], p_personas bytea[],
  p_details bytea[], p_is_synced boolean, p_lock bigint, p_key bytea, p_lease_id uuid, p_token bigint)
RETURNS TABLE (r_outcome text, r_line bytea, r_lease_id uuid, r_token bigint, r_agent bytea)
LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_first bigint;
  v_number bigint;
  v_tasks bigint;
  v_head bytea;
  v_hash bytea;
  v_now bytea;
BEGIN
  PERFORM @schema@.lock_1('{}');
  IF p_is_synced THEN PERFORM @schema@.sync_1(); END IF;
  IF p_key IS NOT NULL THEN
    SELECT f.r_lease_id, f.r_token, f.r_agent INTO r_lease_id, r_token, r_agent FROM @schema@.fence_1(p_lock, p_key) AS f;
  END IF;
  -- There is one chain: whoever appends to it waits for the one before.
  PERFORM pg_advisory_xact_lock('@schema@.entries'::regclass::oid::int, 1);
  r_outcome := 'appended';
  IF p_is_repeat THEN
    SELECT number INTO v_first FROM @schema@.entries WHERE request = p_request;
    IF FOUND THEN
      FOR r_line IN SELECT line FROM @schema@.entries
        WHERE number >= v_first AND number < v_first + cardinality(p_ids) ORDER BY number
      LOOP
        RETURN NEXT;
      END LOOP;
      RETURN;
    END IF;
  END IF;
  IF p_key IS NOT NULL AND (r_lease_id IS DISTINCT FROM p_lease_id OR r_token IS DISTINCT FROM p_token) THEN
    r_outcome := 'fenced';
    RETURN NEXT;
    RETURN;
  END IF;
  SELECT number, tasks, hash INTO v_number, v_tasks, v_hash FROM @schema@.entries ORDER BY number DESC LIMIT 1;
  IF NOT FOUND THEN
    v_number := 0;
    v_tasks := 0;
    v_hash := 'genesis';
  END IF;
  v_now := @schema@.iso_1(@schema@.now_1());
  FOR i IN 1 .. cardinality(p_ids) LOOP
    v_head := '{"entry_id":"'::bytea || convert_to(p_ids[i]::text, 'UTF8') || '","timestamp":"'::bytea || v_now
      || '","previous_hash":"'::bytea || v_hash || '"'::bytea;
    v_hash := convert_to(encode(sha256(v_head || p_cores[i] || p_details[i] || '}'::bytea), 'hex'), 'UTF8');
    r_line := v_head || ',"entry_hash":"'::bytea || v_hash || '"'::bytea || p_cores[i];
    IF p_personas[i] IS NULL THEN
      r_line := r_line || p_details[i] || '}'::bytea;
    ELSE
      r_line := r_line || ',"persona_hash":'::bytea || p_personas[i] || p_details[i] || ',"persona_seal":"'::bytea
        || convert_to(encode(sha256('{"entry_hash":"'::bytea || v_hash || '","persona_hash":'::bytea || p_personas[i]
        || '}'::bytea), 'hex'), 'UTF8') || '"}'::bytea;
    END IF;
    IF NOT EXISTS (SELECT 1 FROM @schema@.entries WHERE task_key = p_task_keys[i]) THEN
      v_tasks := v_tasks + 1;
    END IF;
    v_number := v_number + 1;
    INSERT INTO @schema@.entries (number, task_key, tasks, request, hash, line)
    VALUES (v_number, p_task_keys[i], v_tasks, CASE WHEN i = 1 THEN p_request END, v_hash, r_line);
    RETURN NEXT;
  END LOOP;
END $$;

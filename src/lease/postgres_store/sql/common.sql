-- A token is acknowledged only once it is in the log, whatever the server's default is: or a crash would repeat it.
CREATE OR REPLACE FUNCTION @schema@.next_token_1() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  PERFORM @schema@.sync_1();
  RETURN nextval('@schema@.tokens');
END $$;

-- Counts a hold that has ended, and keeps the answer of the request that ended it. Not in SQL, whose functions are planned
-- anew for each call: three times as long as this takes.
CREATE OR REPLACE FUNCTION @schema@.count_holds_1(
  p_session uuid, p_request uuid, p_answer bigint, p_holds bigint, p_ms bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO @schema@.sessions AS s (session, request, answer, finished_holds, finished_hold_ms, used_at)
  VALUES (p_session, p_request, p_answer, p_holds, p_ms, clock_timestamp())
  ON CONFLICT (session) DO UPDATE SET
    request = coalesce(excluded.request, s.request),
    answer = CASE WHEN excluded.request IS NULL THEN s.answer ELSE excluded.answer END,
    finished_holds = s.finished_holds + excluded.finished_holds,
    finished_hold_ms = s.finished_hold_ms + excluded.finished_hold_ms,
    used_at = excluded.used_at;
END $$;

-- Notes since when a key is free, and wakes the first of those who wait for it: a second and a third, because the first
-- may be dead or want more than this key.
CREATE OR REPLACE FUNCTION @schema@.free_1(p_key bytea, p_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO @schema@.vacancies (key, since)
    SELECT p_key, p_now WHERE EXISTS (SELECT 1 FROM @schema@.waiters WHERE key = p_key) ON CONFLICT (key) DO NOTHING;
  PERFORM pg_notify(channel, '') FROM (
    SELECT DISTINCT 'driftlock ' || split_part(process, '@', 1) AS channel FROM (
      SELECT process FROM @schema@.waiters WHERE key = p_key AND until_at > p_now ORDER BY ticket LIMIT 3
    ) AS first
  ) AS channels;
END $$;

-- Records what happened to a lease without its holder's doing. Events are seen in the order of their ids: a reader that
-- has seen one misses none before it.
CREATE OR REPLACE FUNCTION @schema@.record_1(
  p_kind text, p_lease @schema@.leases, p_by bytea, p_reason bytea, p_request uuid, p_now timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_id bigint;
BEGIN
  PERFORM pg_advisory_xact_lock('@schema@.events'::regclass::oid::int, 1);
  INSERT INTO @schema@.events (kind, at, task, phase, agent, token, by, reason, request,
    lease_id, acquired_at, expires_at, renewed_count)
  VALUES (p_kind, p_now, p_lease.task, p_lease.phase, p_lease.agent, p_lease.token, p_by, p_reason, p_request,
    p_lease.lease_id, p_lease.acquired_at, p_lease.expires_at, p_lease.renewed_count)
  RETURNING id INTO v_id;
  -- Nobody waits for this row: all who record wait for the lock above.
  INSERT INTO @schema@.figures AS f (source, name, value, counted_at)
  VALUES ('00000000-0000-0000-0000-000000000000', p_kind, 1, clock_timestamp())
  ON CONFLICT (source, name) DO UPDATE SET value = f.value + 1;
  IF v_id % 100 = 0 THEN
    -- Each kind by itself: a flood of one leaves the others.
    DELETE FROM @schema@.events WHERE kind = p_kind AND id <= (
      SELECT id FROM @schema@.events WHERE kind = p_kind ORDER BY id DESC LIMIT 1 OFFSET 10000);
  END IF;
END $$;

-- Ends the lease of a key, whoever's it is, and tells those who wait for it; for how long it was held. To be called under
-- the key's lock.
CREATE OR REPLACE FUNCTION @schema@.end_1(p_key bytea, p_now timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_acquired_at timestamptz;
BEGIN
  DELETE FROM @schema@.leases WHERE key = p_key RETURNING acquired_at INTO v_acquired_at;
  IF EXISTS (SELECT 1 FROM @schema@.waiters WHERE key = p_key) THEN
    PERFORM @schema@.free_1(p_key, p_now);
  END IF;
  RETURN greatest(@schema@.milliseconds_1(v_acquired_at, p_now), 0);
END $$;

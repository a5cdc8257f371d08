-- Ends a lease, whoever's it is, with a record, which also answers a repeated request.
CREATE OR REPLACE FUNCTION @schema@.force_release_1(
  p_lock bigint, p_key bytea, p_by bytea, p_reason bytea, p_request uuid, p_session uuid)
RETURNS TABLE (r_lease_id uuid, r_agent bytea, r_acquired_at timestamptz, r_expires_at timestamptz,
  r_renewed_count bigint, r_token bigint)
LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_lease @schema@.leases;
  v_now timestamptz;
BEGIN
  PERFORM @schema@.lock_1(ARRAY[p_lock]);
  IF NOT EXISTS (SELECT 1 FROM @schema@.events WHERE kind = 'forced-release' AND request = p_request) THEN
    SELECT * INTO v_lease FROM @schema@.leases WHERE key = p_key FOR UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    v_now := @schema@.now_1();
    PERFORM @schema@.count_holds_1(p_session, NULL, NULL, 1, @schema@.end_1(p_key, v_now));
    PERFORM @schema@.record_1('forced-release', v_lease, p_by, p_reason, p_request, v_now);
  END IF;
  RETURN QUERY SELECT lease_id, agent, acquired_at, expires_at, renewed_count, token
    FROM @schema@.events WHERE kind = 'forced-release' AND request = p_request;
END $$;

-- The newest lease of a key, which stays that until the end of the transaction. A transaction whose client has stopped
-- ends by itself: nobody has to wait for it longer than these ten seconds.
CREATE OR REPLACE FUNCTION @schema@.fence_1(p_lock bigint, p_key bytea)
RETURNS TABLE (r_lease_id uuid, r_token bigint, r_agent bytea) LANGUAGE plpgsql @settings@ AS $$
BEGIN
  PERFORM @schema@.lock_1(ARRAY[p_lock]);
  PERFORM set_config('idle_in_transaction_session_timeout', '10s', true);
  RETURN QUERY SELECT lease_id, token, agent FROM @schema@.leases WHERE key = p_key;
END $$;

-- Stores totals that a client counts by itself; each is stored as it is, so storing it twice changes nothing.
CREATE OR REPLACE FUNCTION @schema@.store_figures_1(p_source uuid, p_names text[], p_values bigint[])
RETURNS void LANGUAGE sql AS $$
  INSERT INTO @schema@.figures AS f (source, name, value, counted_at)
    SELECT p_source, name, value, clock_timestamp() FROM unnest(p_names, p_values) AS counted (name, value)
  ON CONFLICT (source, name) DO UPDATE SET value = greatest(f.value, excluded.value), counted_at = excluded.counted_at
$$;

-- Removes what is long over: leases an hour after their expiry, waiters, and the figures of clients of before, which are
-- added up. Every process asks for it now and then: whoever finds another at it, or that one was a few minutes ago, leaves
-- it at that.
CREATE OR REPLACE FUNCTION @schema@.sweep_1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_now timestamptz := @schema@.now_1();
  v_holds bigint;
  v_ms bigint;
BEGIN
  IF NOT pg_try_advisory_xact_lock('@schema@.leases'::regclass::oid::int, 2) THEN RETURN 0; END IF;
  INSERT INTO @schema@.figures AS f (source, name, value, counted_at)
    VALUES ('00000000-0000-0000-0000-000000000000', 'sweeps', 1, clock_timestamp())
  ON CONFLICT (source, name) DO UPDATE SET value = f.value + 1, counted_at = excluded.counted_at
    WHERE f.counted_at < clock_timestamp() - interval '5 minutes';
  IF NOT FOUND THEN RETURN 0; END IF;
  WITH over AS (
    DELETE FROM @schema@.leases WHERE key IN (
      SELECT key FROM @schema@.leases WHERE expires_at < v_now - interval '1 hour' LIMIT 1000 FOR UPDATE SKIP LOCKED)
    RETURNING acquired_at, expires_at)
  SELECT count(*), coalesce(sum(@schema@.milliseconds_1(acquired_at, expires_at)), 0) INTO v_holds, v_ms FROM over;
  DELETE FROM @schema@.waiters WHERE until_at < v_now - interval '1 minute';
  DELETE FROM @schema@.vacancies AS v WHERE since < v_now - interval '1 minute'
    AND NOT EXISTS (SELECT 1 FROM @schema@.waiters AS w WHERE w.key = v.key);
  WITH old AS (
    DELETE FROM @schema@.sessions WHERE used_at < clock_timestamp() - interval '1 day'
      AND session <> '00000000-0000-0000-0000-000000000000'
    RETURNING finished_holds, finished_hold_ms)
  SELECT v_holds + coalesce(sum(finished_holds), 0), v_ms + coalesce(sum(finished_hold_ms), 0) INTO v_holds, v_ms FROM old;
  IF v_holds > 0 THEN
    PERFORM @schema@.count_holds_1('00000000-0000-0000-0000-000000000000', NULL, NULL, v_holds, v_ms);
  END IF;
  WITH old AS (
    DELETE FROM @schema@.figures WHERE counted_at < clock_timestamp() - interval '1 day'
      AND source <> '00000000-0000-0000-0000-000000000000'
    RETURNING name, value)
  INSERT INTO @schema@.figures AS f (source, name, value, counted_at)
    SELECT '00000000-0000-0000-0000-000000000000', name, sum(value), clock_timestamp() FROM old GROUP BY name
  ON CONFLICT (source, name) DO UPDATE SET value = f.value + excluded.value;
  RETURN v_holds;
END $$;

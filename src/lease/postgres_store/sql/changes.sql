-- Grants the lease of one key, unless somebody has it or waits for it. Called again with the same lease id, it gives the
-- same answer: the reply to the first call may have been lost.
CREATE OR REPLACE FUNCTION @schema@.acquire_1(
  p_lock bigint, p_key bytea, p_task bytea, p_phase bytea, p_agent bytea, p_lease_id uuid, p_duration_ms bigint,
  p_process text, p_boot_id text, p_session uuid,
  OUT r_outcome text, OUT r_now timestamptz, OUT r_agent bytea, OUT r_acquired_at timestamptz,
  OUT r_expires_at timestamptz, OUT r_renewed_count bigint, OUT r_token bigint)
LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_lease @schema@.leases;
BEGIN
  -- What is held is refused without the lock. What it was found to be is decided by the moment of that look: if it ended
  -- until another, it would be granted without its lock, over whatever there is by then.
  SELECT * INTO v_lease FROM @schema@.leases WHERE key = p_key;
  r_now := @schema@.now_1();
  IF v_lease.key IS NULL OR v_lease.expires_at <= r_now THEN
    PERFORM @schema@.lock_1(ARRAY[p_lock]);
    -- Mostly one of those that waited for the lock has it now. To lock its row would be a write, and the others would wait
    -- until it is on the disk.
    SELECT * INTO v_lease FROM @schema@.leases WHERE key = p_key;
    r_now := @schema@.now_1();
    IF v_lease.expires_at <= r_now THEN
      SELECT * INTO v_lease FROM @schema@.leases WHERE key = p_key FOR UPDATE;
      r_now := @schema@.now_1();
    END IF;
  END IF;
  IF v_lease.lease_id = p_lease_id THEN
    r_outcome := 'granted';
  ELSIF v_lease.expires_at > r_now THEN
    r_outcome := 'held';
  ELSIF EXISTS (SELECT 1 FROM @schema@.waiters WHERE key = p_key) THEN
    r_outcome := 'wanted';
    RETURN;
  ELSE
    r_outcome := 'granted';
    v_lease := @schema@.grant_1(v_lease, 'expiry', p_lock, p_key, p_task, p_phase, p_agent, p_lease_id, p_duration_ms,
      p_process, p_boot_id, p_session, r_now);
  END IF;
  r_agent := v_lease.agent;
  r_acquired_at := v_lease.acquired_at;
  r_expires_at := v_lease.expires_at;
  r_renewed_count := v_lease.renewed_count;
  r_token := v_lease.token;
END $$;

-- Writes the row of a new lease, over an old one that is over if there is one. To be called under the key's lock, with
-- the old row locked.
CREATE OR REPLACE FUNCTION @schema@.grant_1(
  p_old @schema@.leases, p_kind text, p_lock bigint, p_key bytea, p_task bytea, p_phase bytea, p_agent bytea,
  p_lease_id uuid, p_duration_ms bigint, p_process text, p_boot_id text, p_session uuid, p_now timestamptz)
RETURNS @schema@.leases LANGUAGE plpgsql AS $$
DECLARE
  v_lease @schema@.leases;
  v_expires_at timestamptz := p_now + p_duration_ms * interval '1 millisecond';
BEGIN
  IF p_old.key IS NULL THEN
    INSERT INTO @schema@.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, process, boot_id)
    VALUES (p_key, p_task, p_phase, p_lock, p_lease_id, p_agent, @schema@.next_token_1(), p_now, v_expires_at, p_process,
      p_boot_id)
    RETURNING * INTO v_lease;
    RETURN v_lease;
  END IF;
  PERFORM @schema@.record_1(p_kind, p_old, p_agent, NULL, NULL, p_now);
  PERFORM @schema@.count_holds_1(p_session, NULL, NULL, 1,
    greatest(@schema@.milliseconds_1(p_old.acquired_at, least(p_old.expires_at, p_now)), 0));
  UPDATE @schema@.leases SET lease_id = p_lease_id, agent = p_agent, token = @schema@.next_token_1(), acquired_at = p_now,
    expires_at = v_expires_at, renewed_count = 0, renewal = NULL, process = p_process, boot_id = p_boot_id
  WHERE key = p_key RETURNING * INTO v_lease;
  RETURN v_lease;
END $$;

-- Extends the holder's lease, and counts that once for each request.
CREATE OR REPLACE FUNCTION @schema@.renew_1(
  p_key bytea, p_agent bytea, p_duration_ms bigint, p_max_renewals bigint, p_request uuid, p_process text, p_boot_id text,
  OUT r_outcome text, OUT r_lease_id uuid, OUT r_expires_at timestamptz)
LANGUAGE plpgsql @settings@ AS $$
BEGIN
  -- Who holds it relies on it, also after a crash of the server.
  PERFORM @schema@.sync_1();
  UPDATE @schema@.leases SET expires_at = @schema@.now_1() + p_duration_ms * interval '1 millisecond',
    renewed_count = renewed_count + CASE WHEN renewal = p_request THEN 0 ELSE 1 END,
    renewal = p_request, process = p_process, boot_id = p_boot_id
  WHERE key = p_key AND agent = p_agent AND (renewed_count < p_max_renewals OR renewal = p_request)
  RETURNING lease_id, expires_at INTO r_lease_id, r_expires_at;
  r_outcome := CASE
    WHEN FOUND THEN 'renewed'
    WHEN EXISTS (SELECT 1 FROM @schema@.leases WHERE key = p_key AND agent = p_agent) THEN 'exceeded'
    ELSE 'not held' END;
END $$;

-- Sets when this very lease ends; whether it is still there.
CREATE OR REPLACE FUNCTION @schema@.extend_1(
  p_key bytea, p_lease_id uuid, p_duration_ms bigint, p_process text, p_boot_id text)
RETURNS boolean LANGUAGE plpgsql @settings@ AS $$
BEGIN
  -- Who holds it relies on it, also after a crash of the server.
  PERFORM @schema@.sync_1();
  UPDATE @schema@.leases SET expires_at = @schema@.now_1() + p_duration_ms * interval '1 millisecond',
    process = p_process, boot_id = p_boot_id
  WHERE key = p_key AND lease_id = p_lease_id;
  RETURN FOUND;
END $$;

-- Ends the holder's lease, or only the one of this id; how many that were. The answer is kept with the session: the same
-- request finds it there, also if its first try comes only after the repeated one, and ends nothing that was acquired since.
CREATE OR REPLACE FUNCTION @schema@.release_1(
  p_lock bigint, p_key bytea, p_agent bytea, p_lease_id uuid, p_session uuid, p_request uuid, p_is_repeat boolean)
RETURNS bigint LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_answer bigint;
  v_now timestamptz;
BEGIN
  PERFORM @schema@.lock_1(ARRAY[p_lock]);
  SELECT answer INTO v_answer FROM @schema@.sessions WHERE session = p_session AND request = p_request;
  IF FOUND THEN RETURN v_answer; END IF;
  IF NOT EXISTS (SELECT 1 FROM @schema@.leases
    WHERE key = p_key AND agent = p_agent AND (p_lease_id IS NULL OR lease_id = p_lease_id)) THEN
    IF p_is_repeat THEN PERFORM @schema@.count_holds_1(p_session, p_request, 0, 0, 0); END IF;
    RETURN 0;
  END IF;
  v_now := @schema@.now_1();
  PERFORM @schema@.count_holds_1(p_session, p_request, 1, 1, @schema@.end_1(p_key, v_now));
  RETURN 1;
END $$;

-- Ends all leases of the holder; how many that were.
CREATE OR REPLACE FUNCTION @schema@.release_all_1(
  p_agent bytea, p_session uuid, p_request uuid, p_is_repeat boolean)
RETURNS bigint LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_answer bigint := 0;
  v_ms bigint := 0;
  v_now timestamptz;
  v_key bytea;
  -- What the agent acquires meanwhile comes after this call.
  v_locks bigint[] := coalesce(
    (SELECT array_agg(lock ORDER BY lock) FROM @schema@.leases WHERE agent = p_agent), '{}');
BEGIN
  PERFORM @schema@.lock_1(v_locks);
  SELECT answer INTO v_answer FROM @schema@.sessions WHERE session = p_session AND request = p_request;
  IF FOUND THEN RETURN v_answer; END IF;
  v_answer := 0;
  v_now := @schema@.now_1();
  FOR v_key IN SELECT key FROM @schema@.leases WHERE agent = p_agent AND lock = ANY (v_locks) LOOP
    v_ms := v_ms + @schema@.end_1(v_key, v_now);
    v_answer := v_answer + 1;
  END LOOP;
  IF v_answer > 0 OR p_is_repeat THEN
    PERFORM @schema@.count_holds_1(p_session, p_request, v_answer, v_answer, v_ms);
  END IF;
  RETURN v_answer;
END $$;

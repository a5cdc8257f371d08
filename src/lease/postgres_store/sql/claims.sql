-- Grants all keys of a claim, or queues it, or refuses it. `p_locks` are those of all its keys and of the one that is
-- given up, each once, the smallest first. A call with the same lease ids gives the same answer, and a request has one
-- place in the queue however often it is sent. `r_retry_ms`: after which time another try may do better.
CREATE OR REPLACE FUNCTION @schema@.claim_1(
  p_locks bigint[], p_key_locks bigint[], p_keys bytea[], p_tasks bytea[], p_phases bytea[], p_lease_ids uuid[],
  p_agent bytea, p_duration_ms bigint, p_is_reentrant boolean, p_given_key bytea, p_given_lease_id uuid,
  p_queue_ms bigint, p_request uuid, p_ticket bigint, p_dead text[], p_process text, p_boot_id text, p_session uuid)
RETURNS TABLE (r_outcome text, r_position int, r_now timestamptz, r_agent bytea, r_lease_id uuid,
  r_acquired_at timestamptz, r_expires_at timestamptz, r_renewed_count bigint, r_token bigint, r_ticket bigint,
  r_retry_ms bigint)
LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_leases @schema@.leases[] := '{}';
  v_lease @schema@.leases;
  v_key bytea;
  v_kinds text[] := '{}';
  v_kind text;
  v_granted int := 0;
BEGIN
  PERFORM @schema@.lock_1(p_locks);
  r_now := @schema@.now_1();
  FOREACH v_key IN ARRAY p_keys LOOP
    SELECT * INTO v_lease FROM @schema@.leases WHERE key = v_key FOR UPDATE;
    v_leases := v_leases || v_lease;
    IF v_lease.lease_id = p_lease_ids[array_length(v_leases, 1)] THEN v_granted := v_granted + 1; END IF;
  END LOOP;

  IF v_granted < array_length(p_keys, 1) THEN
    IF p_given_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM @schema@.leases WHERE key = p_given_key
      AND agent = p_agent AND (p_given_lease_id IS NULL OR lease_id = p_given_lease_id)) THEN
      -- Unless an earlier try of this request has given it up, in exchange for what the agent has already.
      IF NOT EXISTS (SELECT 1 FROM @schema@.sessions WHERE request = p_request) THEN
        r_outcome := 'nothing to give up';
        RETURN NEXT;
        RETURN;
      END IF;
      p_given_key := NULL;
    END IF;

    FOR i IN 1 .. array_length(p_keys, 1) LOOP
      v_lease := v_leases[i];
      IF p_is_reentrant AND v_lease.agent = p_agent THEN
        v_kinds := v_kinds || 'own'::text;
        CONTINUE;
      END IF;
      SELECT vacancy.kind, vacancy.agent, vacancy.retry_ms INTO v_kind, r_agent, r_retry_ms
        FROM @schema@.vacancy_1(p_keys[i], v_lease, p_ticket, p_dead, p_boot_id, r_now) AS vacancy;
      IF v_kind IN ('held', 'wanted') THEN
        IF v_kind = 'wanted' THEN
          INSERT INTO @schema@.vacancies (key, since) VALUES (p_keys[i], r_now) ON CONFLICT (key) DO NOTHING;
        END IF;
        r_ticket := p_ticket;
        IF p_ticket IS NULL AND p_queue_ms > 0 THEN
          r_ticket := @schema@.enqueue_1(p_keys, p_request, p_agent, p_process, p_queue_ms, r_now);
        END IF;
        r_outcome := 'refused';
        r_position := i;
        r_expires_at := CASE v_kind WHEN 'held' THEN v_lease.expires_at ELSE r_now END;
        RETURN NEXT;
        RETURN;
      END IF;
      v_kinds := v_kinds || v_kind;
    END LOOP;

    IF p_given_key IS NOT NULL THEN
      PERFORM @schema@.count_holds_1(p_session, p_request, 1, 1, @schema@.end_1(p_given_key, r_now));
    END IF;
    FOR i IN 1 .. array_length(p_keys, 1) LOOP
      IF v_kinds[i] = 'own' THEN
        PERFORM @schema@.sync_1();
        UPDATE @schema@.leases SET expires_at = r_now + p_duration_ms * interval '1 millisecond', process = p_process,
          boot_id = p_boot_id WHERE key = p_keys[i] RETURNING * INTO v_lease;
      ELSE
        v_lease := @schema@.grant_1(v_leases[i], v_kinds[i], p_key_locks[i], p_keys[i], p_tasks[i], p_phases[i],
          p_agent, p_lease_ids[i], p_duration_ms, p_process, p_boot_id, p_session, r_now);
        DELETE FROM @schema@.vacancies WHERE key = p_keys[i];
      END IF;
      v_leases[i] := v_lease;
    END LOOP;
  END IF;
  DELETE FROM @schema@.waiters WHERE claim = p_request AND key = ANY (p_keys);
  r_outcome := 'granted';
  r_agent := p_agent;
  FOR i IN 1 .. array_length(p_keys, 1) LOOP
    v_lease := v_leases[i];
    r_position := i;
    r_lease_id := v_lease.lease_id;
    r_acquired_at := v_lease.acquired_at;
    r_expires_at := v_lease.expires_at;
    r_renewed_count := v_lease.renewed_count;
    r_token := v_lease.token;
    RETURN NEXT;
  END LOOP;
END $$;

-- What there is at a key for a claim: 'none' or a lease that is over ('expiry', 'takeover'), so it may be granted; or
-- somebody who has it ('held') or is before the claim in the queue ('wanted').
CREATE OR REPLACE FUNCTION @schema@.vacancy_1(
  p_key bytea, p_lease @schema@.leases, p_ticket bigint, p_dead text[], p_boot_id text, p_now timestamptz,
  OUT kind text, OUT agent bytea, OUT retry_ms bigint)
LANGUAGE plpgsql AS $$
DECLARE
  v_is_dead boolean := coalesce(p_lease.process = ANY (p_dead) AND p_lease.boot_id = p_boot_id, false);
  v_before bigint;
  v_free_since timestamptz;
  v_free_for_ms bigint;
BEGIN
  kind := 'none';
  IF p_lease.key IS NOT NULL THEN
    IF p_lease.expires_at > p_now AND NOT v_is_dead THEN
      kind := 'held';
      agent := p_lease.agent;
      retry_ms := @schema@.milliseconds_1(p_now, p_lease.expires_at) + 1;
      RETURN;
    END IF;
    -- Since when a dead holder's lease is free nobody can tell; the queue's own notes do.
    kind := CASE WHEN p_lease.expires_at > p_now THEN 'takeover' ELSE 'expiry' END;
    v_free_since := CASE kind WHEN 'expiry' THEN p_lease.expires_at END;
  END IF;
  SELECT count(*), (array_agg(w.agent ORDER BY w.ticket))[1] INTO v_before, agent
    FROM @schema@.waiters AS w
    WHERE w.key = p_key AND (p_ticket IS NULL OR w.ticket < p_ticket) AND w.until_at > p_now
      AND NOT (w.process = ANY (p_dead));
  IF v_before = 0 THEN RETURN; END IF;
  IF v_free_since IS NULL THEN
    SELECT since INTO v_free_since FROM @schema@.vacancies WHERE key = p_key;
  END IF;
  -- Each of those before has 50 ms in which the key is its.
  v_free_for_ms := coalesce(@schema@.milliseconds_1(v_free_since, p_now), 0);
  IF v_free_for_ms < 50 * v_before THEN
    kind := 'wanted';
    retry_ms := 50 * v_before - v_free_for_ms;
  END IF;
END $$;

-- Appends a claim to the queues of its keys, once for each request; its ticket.
CREATE OR REPLACE FUNCTION @schema@.enqueue_1(
  p_keys bytea[], p_request uuid, p_agent bytea, p_process text, p_queue_ms bigint, p_now timestamptz)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_ticket bigint;
BEGIN
  SELECT ticket INTO v_ticket FROM @schema@.waiters WHERE claim = p_request AND key = p_keys[1];
  IF FOUND THEN RETURN v_ticket; END IF;
  v_ticket := nextval('@schema@.tickets');
  -- What is left of those who waited before, whom nobody remembers.
  DELETE FROM @schema@.vacancies AS v WHERE v.key = ANY (p_keys)
    AND NOT EXISTS (SELECT 1 FROM @schema@.waiters AS w WHERE w.key = v.key AND w.until_at > p_now);
  -- Of several keys, those that are free already count as free from now on.
  INSERT INTO @schema@.vacancies (key, since) SELECT asked.key, p_now FROM unnest(p_keys) AS asked (key)
    WHERE NOT EXISTS (SELECT 1 FROM @schema@.leases AS lease WHERE lease.key = asked.key)
    ON CONFLICT (key) DO NOTHING;
  INSERT INTO @schema@.waiters (key, ticket, claim, agent, process, until_at)
    SELECT key, v_ticket, p_request, p_agent, p_process, p_now + p_queue_ms * interval '1 millisecond'
    FROM unnest(p_keys) AS asked (key);
  RETURN v_ticket;
END $$;

-- Gives up a claim, whatever has become of it: its places, and leases that it was granted without its knowing.
CREATE OR REPLACE FUNCTION @schema@.give_up_1(
  p_locks bigint[], p_keys bytea[], p_lease_ids uuid[], p_request uuid, p_session uuid)
RETURNS void LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_now timestamptz;
BEGIN
  PERFORM @schema@.lock_1(p_locks);
  v_now := @schema@.now_1();
  DELETE FROM @schema@.waiters WHERE claim = p_request AND key = ANY (p_keys);
  FOR i IN 1 .. array_length(p_keys, 1) LOOP
    IF EXISTS (SELECT 1 FROM @schema@.leases WHERE key = p_keys[i] AND lease_id = p_lease_ids[i]) THEN
      PERFORM @schema@.count_holds_1(p_session, NULL, NULL, 1, @schema@.end_1(p_keys[i], v_now));
    ELSIF NOT EXISTS (SELECT 1 FROM @schema@.leases WHERE key = p_keys[i]) THEN
      PERFORM @schema@.free_1(p_keys[i], v_now);
    END IF;
  END LOOP;
END $$;

-- What the waiters of a process should know: of each key that they wait for, the first of their tickets, after which time
-- a try may succeed (0: now), and whose death would let it succeed at once.
CREATE OR REPLACE FUNCTION @schema@.places_1(p_process text, p_boot_id text)
RETURNS TABLE (r_ticket bigint, r_kind text, r_retry_ms bigint, r_holder text, r_before text[])
LANGUAGE plpgsql STABLE @settings@ AS $$
DECLARE
  v_place record;
  v_lease @schema@.leases;
  v_now timestamptz := @schema@.now_1();
BEGIN
  FOR v_place IN SELECT DISTINCT ON (key) key, ticket FROM @schema@.waiters WHERE process = p_process
    ORDER BY key, ticket
  LOOP
    SELECT * INTO v_lease FROM @schema@.leases WHERE key = v_place.key;
    r_ticket := v_place.ticket;
    r_holder := CASE WHEN v_lease.boot_id = p_boot_id THEN v_lease.process END;
    SELECT vacancy.kind, coalesce(vacancy.retry_ms, 0) INTO r_kind, r_retry_ms
      FROM @schema@.vacancy_1(v_place.key, v_lease, v_place.ticket, '{}', p_boot_id, v_now) AS vacancy;
    SELECT coalesce(array_agg(w.process), '{}') INTO r_before FROM @schema@.waiters AS w
      WHERE w.key = v_place.key AND w.ticket < v_place.ticket AND w.until_at > v_now;
    RETURN NEXT;
  END LOOP;
END $$;

-- The processes of this boot whose death would let a claim have its keys.
CREATE OR REPLACE FUNCTION @schema@.in_the_way_1(p_keys bytea[], p_boot_id text, p_with_holders boolean)
RETURNS SETOF text LANGUAGE sql STABLE AS $$
  SELECT process FROM @schema@.waiters WHERE key = ANY (p_keys)
  UNION
  SELECT process FROM @schema@.leases WHERE p_with_holders AND key = ANY (p_keys) AND boot_id = p_boot_id
$$;

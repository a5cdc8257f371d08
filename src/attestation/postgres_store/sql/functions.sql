-- What was found of the records of a call that has been made already.
CREATE OR REPLACE FUNCTION @schema@.attested_1(p_ids uuid[])
RETURNS TABLE (r_outcome text, r_is_first boolean, r_hash bytea, r_version bigint, r_persona_hash bytea)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  v_id uuid;
BEGIN
  FOREACH v_id IN ARRAY p_ids LOOP
    RETURN QUERY SELECT 'recorded', is_first, coalesce(drifted_from, prompt_hash), baseline_version, persona_before
      FROM @schema@.attestations WHERE id = v_id;
  END LOOP;
END $$;

-- Compares prompts with their baselines, records that and sets the baselines of the new ones; gives, for each, what it was
-- compared with. `p_order` has the positions of the prompts in the order of their keys, so that nobody waits for somebody
-- who waits for him. `p_severities`: of a drift, if it is one. A call that is made again with its ids gets the same
-- answers. With a fence it is refused unless the fence's lease is the newest one of its key, which stays that until the
-- end of the transaction.
CREATE OR REPLACE FUNCTION @schema@.attest_1(
  p_ids uuid[], p_is_repeat boolean, p_order int[], p_keys bytea[], p_task_keys bigint[], p_tasks bytea[],
  p_phases bytea[], p_hashes bytea[], p_severities bytea[], p_persona_hashes bytea[], p_persona_summaries bytea[],
  p_agent_types bytea[], p_model_versions bytea[], p_client uuid, p_is_synced boolean,
  p_lock bigint, p_key bytea, p_lease_id uuid, p_token bigint)
RETURNS TABLE (r_outcome text, r_is_first boolean, r_hash bytea, r_version bigint, r_persona_hash bytea,
  r_lease_id uuid, r_token bigint, r_agent bytea)
LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_prompts int := cardinality(p_ids);
  v_baseline @schema@.baselines;
  v_now timestamptz;
  v_is_first boolean[] := array_fill(false, ARRAY[v_prompts]);
  v_versions bigint[] := array_fill(1::bigint, ARRAY[v_prompts]);
  v_drifted_from bytea[] := array_fill(NULL::bytea, ARRAY[v_prompts]);
  v_severities bytea[] := array_fill('none'::bytea, ARRAY[v_prompts]);
  v_persona_before bytea[] := array_fill(NULL::bytea, ARRAY[v_prompts]);
  i int;
  v_recorded bigint;
BEGIN
  PERFORM @schema@.lock_1('{}');
  IF p_is_synced THEN PERFORM @schema@.sync_1(); END IF;
  IF p_key IS NOT NULL THEN
    SELECT f.r_lease_id, f.r_token, f.r_agent INTO r_lease_id, r_token, r_agent FROM @schema@.fence_1(p_lock, p_key) AS f;
  END IF;
  IF p_is_repeat AND EXISTS (SELECT 1 FROM @schema@.attestations WHERE id = p_ids[1]) THEN
    RETURN QUERY SELECT a.*, r_lease_id, r_token, r_agent FROM @schema@.attested_1(p_ids) AS a;
    RETURN;
  END IF;
  IF p_key IS NOT NULL AND (r_lease_id IS DISTINCT FROM p_lease_id OR r_token IS DISTINCT FROM p_token) THEN
    r_outcome := 'fenced';
    RETURN NEXT;
    RETURN;
  END IF;
  v_now := @schema@.now_1();
  FOREACH i IN ARRAY p_order LOOP
    SELECT * INTO v_baseline FROM @schema@.baselines WHERE key = p_keys[i];
    IF NOT FOUND THEN
      -- Waits for whoever is about to set it.
      INSERT INTO @schema@.baselines (key, task, phase, hash, version, updated_at, persona_hash)
      VALUES (p_keys[i], p_tasks[i], p_phases[i], p_hashes[i], 1, @schema@.iso_1(v_now), nullif(p_persona_hashes[i], ''))
      ON CONFLICT (key) DO NOTHING;
      v_is_first[i] := FOUND;
      CONTINUE WHEN FOUND;
      SELECT * INTO v_baseline FROM @schema@.baselines WHERE key = p_keys[i];
    END IF;
    v_versions[i] := v_baseline.version;
    IF v_baseline.hash <> p_hashes[i] THEN
      v_drifted_from[i] := v_baseline.hash;
      v_severities[i] := p_severities[i];
    END IF;
    -- Null where one of them is null.
    IF p_persona_hashes[i] <> '' AND v_baseline.persona_hash <> p_persona_hashes[i] THEN
      v_persona_before[i] := v_baseline.persona_hash;
    END IF;
  END LOOP;

  -- `unnest`, of which few rows are expected: for `generate_series` a plan would be made each time.
  INSERT INTO @schema@.attestations (id, at, task_key, baseline_version, is_first, task, phase, prompt_hash, drifted_from,
    severity, persona_before, persona_hash, persona_summary, agent_type, model_version)
  SELECT id, v_now, p_task_keys[n], v_versions[n], v_is_first[n], p_tasks[n], p_phases[n], p_hashes[n],
    v_drifted_from[n], nullif(v_severities[n], 'none'), v_persona_before[n], p_persona_hashes[n],
    p_persona_summaries[n], p_agent_types[n], p_model_versions[n]
  FROM (SELECT id, n::int AS n FROM unnest(p_ids) WITH ORDINALITY AS numbered (id, n)) AS prompts ORDER BY n
  ON CONFLICT (id) DO NOTHING;
  GET DIAGNOSTICS v_recorded = ROW_COUNT;
  IF v_recorded = 0 THEN
    -- An earlier try of this call has been under way until now.
    RETURN QUERY SELECT a.*, r_lease_id, r_token, r_agent FROM @schema@.attested_1(p_ids) AS a;
    RETURN;
  END IF;

  INSERT INTO @schema@.attestation_counts AS c (source, severity, records, drifted, counted_at)
  SELECT p_client, severity, count(*), count(nullif(severity, 'none')), clock_timestamp()
  FROM unnest(v_severities) AS severity GROUP BY severity ORDER BY severity
  ON CONFLICT (source, severity) DO UPDATE SET records = c.records + excluded.records,
    drifted = c.drifted + excluded.drifted, counted_at = excluded.counted_at;
  IF random() < 0.001 THEN PERFORM @schema@.fold_counts_1(); END IF;

  r_outcome := 'recorded';
  FOR n IN 1 .. v_prompts LOOP
    r_is_first := v_is_first[n];
    r_hash := coalesce(v_drifted_from[n], p_hashes[n]);
    r_version := v_versions[n];
    r_persona_hash := v_persona_before[n];
    RETURN NEXT;
  END LOOP;
END $$;

-- Adds up what clients have counted that have not counted for an hour. Whoever finds another at it leaves it to that one.
CREATE OR REPLACE FUNCTION @schema@.fold_counts_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT pg_try_advisory_xact_lock('@schema@.attestation_counts'::regclass::oid::int, 1) THEN RETURN; END IF;
  WITH old AS (
    DELETE FROM @schema@.attestation_counts WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM @schema@.attestation_counts WHERE counted_at < clock_timestamp() - interval '1 hour'
        AND source <> '00000000-0000-0000-0000-000000000000' LIMIT 1000 FOR UPDATE SKIP LOCKED))
    RETURNING severity, records, drifted)
  INSERT INTO @schema@.attestation_counts AS c (source, severity, records, drifted, counted_at)
    SELECT '00000000-0000-0000-0000-000000000000', severity, sum(records), sum(drifted), clock_timestamp() FROM old
    GROUP BY severity
  ON CONFLICT (source, severity) DO UPDATE SET records = c.records + excluded.records,
    drifted = c.drifted + excluded.drifted;
END $$;

-- Sets a baseline, whatever it was, and records that, once for each request. Without `p_updated_at` it is now's.
CREATE OR REPLACE FUNCTION @schema@.reset_1(
  p_request uuid, p_key bytea, p_task bytea, p_phase bytea, p_hash bytea, p_updated_at bytea, p_updated_by bytea,
  p_reason bytea, p_version_tag bytea, p_is_synced boolean)
RETURNS void LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_now timestamptz := @schema@.now_1();
  v_baseline @schema@.baselines;
BEGIN
  -- An earlier try of this call may be under way.
  PERFORM @schema@.lock_1(ARRAY[hashtextextended(p_request::text, 0)]);
  IF p_is_synced THEN PERFORM @schema@.sync_1(); END IF;
  IF EXISTS (SELECT 1 FROM @schema@.baseline_updates WHERE request = p_request) THEN RETURN; END IF;
  INSERT INTO @schema@.baselines AS b (key, task, phase, hash, version, updated_at, updated_by, reason, version_tag)
  VALUES (p_key, p_task, p_phase, p_hash, 1, coalesce(p_updated_at, @schema@.iso_1(v_now)), p_updated_by, p_reason,
    p_version_tag)
  ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, version = b.version + 1, updated_at = excluded.updated_at,
    persona_hash = NULL, updated_by = excluded.updated_by, reason = excluded.reason, version_tag = excluded.version_tag
  RETURNING * INTO v_baseline;
  INSERT INTO @schema@.baseline_updates (request, at, task, phase, hash, version, updated_at, updated_by, reason, version_tag)
  VALUES (p_request, v_now, p_task, p_phase, p_hash, v_baseline.version, v_baseline.updated_at, p_updated_by, p_reason,
    p_version_tag);
END $$;

-- For operators: removes the oldest records that were made before a time, so many at most; how many that were. Baselines
-- and statistics stay. To be called again, in another transaction, until it removes none.
CREATE OR REPLACE FUNCTION @schema@.prune_attestations_1(p_before timestamptz, p_at_most bigint DEFAULT 10000)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_removed bigint;
BEGIN
  DELETE FROM @schema@.attestations WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM @schema@.attestations WHERE at < p_before ORDER BY at LIMIT p_at_most FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS v_removed = ROW_COUNT;
  RETURN v_removed;
END $$;

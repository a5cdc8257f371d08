-- Takes in leases that were granted elsewhere, unless their keys have one here, and hands out no token any more up to
-- `p_above`. `p_locks`: each once, the smallest first.
CREATE OR REPLACE FUNCTION @schema@.take_in_1(
  p_locks bigint[], p_key_locks bigint[], p_keys bytea[], p_tasks bytea[], p_phases bytea[], p_lease_ids uuid[],
  p_agents bytea[], p_tokens bigint[], p_held_ms bigint[], p_remaining_ms bigint[], p_renewed_counts bigint[],
  p_above bigint)
RETURNS void LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_now timestamptz;
BEGIN
  PERFORM @schema@.lock_1(p_locks);
  PERFORM @schema@.sync_1();
  -- Nobody takes a token between the look and the change.
  ALTER SEQUENCE @schema@.tokens NO CYCLE;
  IF (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM @schema@.tokens) < p_above THEN
    PERFORM setval('@schema@.tokens', p_above);
  END IF;
  v_now := @schema@.now_1();
  FOR i IN 1 .. cardinality(p_keys) LOOP
    INSERT INTO @schema@.leases (key, task, phase, lock, lease_id, agent, token, acquired_at, expires_at, renewed_count,
      process)
    VALUES (p_keys[i], p_tasks[i], p_phases[i], p_key_locks[i], p_lease_ids[i], p_agents[i], p_tokens[i],
      v_now - p_held_ms[i] * interval '1 millisecond', v_now + p_remaining_ms[i] * interval '1 millisecond',
      p_renewed_counts[i], '')
    ON CONFLICT (key) DO NOTHING;
  END LOOP;
END $$;

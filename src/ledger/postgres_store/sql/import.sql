-- Appends entries that were made elsewhere, as they are, from a number on. A call that is made again appends nothing again.
CREATE OR REPLACE FUNCTION @schema@.import_entries_1(
  p_first bigint, p_task_keys bigint[], p_hashes bytea[], p_lines bytea[])
RETURNS void LANGUAGE plpgsql @settings@ AS $$
DECLARE
  v_entries int := cardinality(p_lines);
  v_last bigint;
  v_tasks bigint;
  v_line bytea;
BEGIN
  PERFORM @schema@.lock_1('{}');
  PERFORM @schema@.sync_1();
  PERFORM pg_advisory_xact_lock('@schema@.entries'::regclass::oid::int, 1);
  SELECT number, tasks, line INTO v_last, v_tasks, v_line FROM @schema@.entries ORDER BY number DESC LIMIT 1;
  v_last := coalesce(v_last, 0);
  v_tasks := coalesce(v_tasks, 0);
  IF v_last = p_first + v_entries - 1 AND v_line = p_lines[v_entries] THEN RETURN; END IF;
  IF v_last <> p_first - 1 THEN
    RAISE EXCEPTION 'somebody else has appended to the ledger meanwhile'
      USING ERRCODE = '55000', HINT = 'stop those who use it, and migrate again';
  END IF;
  FOR i IN 1 .. v_entries LOOP
    IF NOT EXISTS (SELECT 1 FROM @schema@.entries WHERE task_key = p_task_keys[i]) THEN
      v_tasks := v_tasks + 1;
    END IF;
    INSERT INTO @schema@.entries (number, task_key, tasks, hash, line)
    VALUES (v_last + i, p_task_keys[i], v_tasks, p_hashes[i], p_lines[i]);
  END LOOP;
END $$;

-- Records attestations that were made elsewhere, as they are. Their ids are of their lines and positions, so that a call
-- that is made again records and counts nothing again.
CREATE OR REPLACE FUNCTION @schema@.import_attestations_1(
  p_ids uuid[], p_ats timestamptz[], p_task_keys bigint[], p_severities bytea[], p_are_drifts boolean[], p_lines bytea[])
RETURNS void LANGUAGE plpgsql @settings@ AS $$
BEGIN
  PERFORM @schema@.lock_1('{}');
  PERFORM @schema@.sync_1();
  INSERT INTO @schema@.attestations (id, at, task_key, severity, line)
  SELECT id, at, task_key, severity, line
  FROM unnest(p_ids, p_ats, p_task_keys, p_severities, p_lines) WITH ORDINALITY
    AS made (id, at, task_key, severity, line, position) ORDER BY position
  ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN RETURN; END IF;
  INSERT INTO @schema@.attestation_counts AS c (source, severity, records, drifted, counted_at)
  SELECT '00000000-0000-0000-0000-000000000000', severity, count(*), count(*) FILTER (WHERE is_drift), clock_timestamp()
  FROM unnest(p_severities, p_are_drifts) AS made (severity, is_drift) GROUP BY severity ORDER BY severity
  ON CONFLICT (source, severity) DO UPDATE SET records = c.records + excluded.records,
    drifted = c.drifted + excluded.drifted;
END $$;

-- Records resets that were made elsewhere, likewise.
CREATE OR REPLACE FUNCTION @schema@.import_resets_1(p_requests uuid[], p_ats timestamptz[], p_lines bytea[])
RETURNS void LANGUAGE plpgsql @settings@ AS $$
BEGIN
  PERFORM @schema@.sync_1();
  INSERT INTO @schema@.baseline_updates (request, at, line)
  SELECT request, at, line FROM unnest(p_requests, p_ats, p_lines) WITH ORDINALITY AS made (request, at, line, position)
  ORDER BY position
  ON CONFLICT (request) DO NOTHING;
END $$;

-- Sets baselines to what they are elsewhere.
CREATE OR REPLACE FUNCTION @schema@.import_baselines_1(
  p_keys bytea[], p_tasks bytea[], p_phases bytea[], p_hashes bytea[], p_versions bigint[], p_updated_ats bytea[],
  p_persona_hashes bytea[], p_updated_bys bytea[], p_reasons bytea[], p_version_tags bytea[])
RETURNS void LANGUAGE plpgsql @settings@ AS $$
BEGIN
  PERFORM @schema@.sync_1();
  INSERT INTO @schema@.baselines
    (key, task, phase, hash, version, updated_at, persona_hash, updated_by, reason, version_tag)
  SELECT * FROM unnest(p_keys, p_tasks, p_phases, p_hashes, p_versions, p_updated_ats, p_persona_hashes, p_updated_bys,
    p_reasons, p_version_tags) AS made (key) ORDER BY key
  ON CONFLICT (key) DO UPDATE SET hash = excluded.hash, version = excluded.version, updated_at = excluded.updated_at,
    persona_hash = excluded.persona_hash, updated_by = excluded.updated_by, reason = excluded.reason,
    version_tag = excluded.version_tag;
END $$;

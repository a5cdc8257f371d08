-- What the functions of all stores use.

-- What everything goes by. A function of its own, so that tests can move it.
CREATE OR REPLACE FUNCTION @schema@.now_1() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

-- Keeps all others from the keys until the end of the transaction. A key without a lease has no row that could be
-- locked. The locks belong to the transaction, not to the session: poolers may change sessions between transactions.
-- The smaller lock comes first, so nobody waits for somebody who waits for him.
CREATE OR REPLACE FUNCTION @schema@.lock_1(p_locks bigint[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  v_lock bigint;
BEGIN
  -- Under another level what is read after the lock would be older than the lock.
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'the transaction isolation is %', current_setting('transaction_isolation')
      USING ERRCODE = '25001', HINT = 'ALTER ROLE … SET default_transaction_isolation = ''read committed''';
  END IF;
  FOREACH v_lock IN ARRAY p_locks LOOP
    PERFORM pg_advisory_xact_lock(v_lock);
  END LOOP;
END $$;

-- Has the transaction acknowledged only once it is in the log, whatever the server's default is.
CREATE OR REPLACE FUNCTION @schema@.sync_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION @schema@.milliseconds_1(p_from timestamptz, p_to timestamptz) RETURNS bigint
LANGUAGE sql STABLE AS 'SELECT (extract(epoch FROM p_to - p_from) * 1000)::bigint';

-- A time as JavaScript writes it.
CREATE OR REPLACE FUNCTION @schema@.iso_1(p_time timestamptz) RETURNS bytea LANGUAGE sql STABLE AS $$
  SELECT convert_to(to_char(p_time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'UTF8')
$$;

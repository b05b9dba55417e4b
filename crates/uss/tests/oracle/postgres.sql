-- Definitions with which PostgreSQL reads where clauses unchanged: now() and segment(), and the choices of
-- docs/reference/semantics.md in which we differ from PostgreSQL. This schema comes before pg_catalog
-- in the search path.

CREATE SCHEMA uss;
SET search_path = uss, pg_catalog;

CREATE TABLE events (log_offset bigint, event_id text, id text, client_ref_id text, id_type text, region text,
    device_type text, country text, activity_type text, payload_activity_type text, url text, payload_url text,
    order_total numeric(38,9), payload_order_total numeric(38,9), order_id text, payload_order_id text, element_id text,
    payload_element_id text, created_at timestamptz, processed_at timestamptz, payload jsonb);
CREATE TABLE owners_at (instant int, log_offset bigint, user_id bigint);
CREATE TABLE users_at (instant int, id bigint, email text, name text, created_at timestamptz, traits jsonb);
CREATE TABLE members (instant int, tag text, user_id bigint);

CREATE FUNCTION now() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT current_setting('uss.now')::timestamptz $$;

-- Volatile, since PostgreSQL would otherwise evaluate it once for all users.
CREATE FUNCTION segment(tag text) RETURNS boolean VOLATILE LANGUAGE sql AS $$
    SELECT EXISTS (SELECT FROM uss.members m WHERE m.instant = current_setting('uss.instant')::int
        AND m.tag = $1 AND m.user_id = current_setting('uss.user')::bigint) $$;

-- Seconds after the start of 1970, rounded down to microseconds, in the years 0001 to 9999.
CREATE FUNCTION to_timestamp(seconds numeric) RETURNS timestamptz IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT CASE WHEN seconds >= -62135596800 AND seconds < 253402300800
        THEN 'epoch'::timestamptz OPERATOR(pg_catalog.+) make_interval(secs =>
            (floor(seconds OPERATOR(pg_catalog.*) 1000000) OPERATOR(pg_catalog./) 1000000)::float8) END $$;

-- NULL where PostgreSQL raises an error.
CREATE FUNCTION split_part(x text, separator text, n int) RETURNS text IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT CASE WHEN n <> 0 THEN pg_catalog.split_part(x, separator, n) END $$;

-- Not in SQL: PostgreSQL would inline the body, which is only stable, and evaluate it once for all users.
CREATE FUNCTION bucket(name text) RETURNS numeric VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    RETURN ('x' || left(md5($1 || ':' || current_setting('uss.user')), 8))::bit(32)::bigint % 10000 * 0.01;
END $$;

CREATE FUNCTION jsonb_array_length(x jsonb) RETURNS int IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT CASE jsonb_typeof(x) WHEN 'array' THEN pg_catalog.jsonb_array_length(x) END $$;

-- Divides decimals and rounds half away from zero. NULL where PostgreSQL raises an error.
CREATE FUNCTION decimal_div(a numeric, b numeric) RETURNS numeric IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT CASE WHEN b <> 0 THEN round(a OPERATOR(pg_catalog./) b, 9) END $$;
CREATE FUNCTION int_div(a bigint, b bigint) RETURNS numeric IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT CASE WHEN b <> 0 THEN round(a::numeric OPERATOR(pg_catalog./) b::numeric, 9) END $$;
CREATE OPERATOR / (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = decimal_div);
CREATE OPERATOR / (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int_div);
CREATE FUNCTION decimal_mul(a numeric, b numeric) RETURNS numeric IMMUTABLE STRICT LANGUAGE sql AS $$
    SELECT round(a OPERATOR(pg_catalog.*) b, 9) $$;
CREATE OPERATOR * (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = decimal_mul);

CREATE FUNCTION avg_step(state numeric[], x numeric) RETURNS numeric[] IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN x IS NULL THEN state ELSE ARRAY[state[1] + x, state[2] + 1] END $$;
CREATE FUNCTION avg_end(state numeric[]) RETURNS numeric IMMUTABLE LANGUAGE sql AS $$
    SELECT uss.decimal_div(state[1], state[2]) $$;
CREATE AGGREGATE avg(numeric) (SFUNC = avg_step, STYPE = numeric[], INITCOND = '{0,0}', FINALFUNC = avg_end);

-- Events are in log order. NULLs are not skipped.
CREATE FUNCTION first_step(state anyarray, x anyelement) RETURNS anyarray IMMUTABLE LANGUAGE sql AS $$
    SELECT CASE WHEN cardinality(state) = 0 THEN ARRAY[x] ELSE state END $$;
CREATE FUNCTION last_step(state anyarray, x anyelement) RETURNS anyarray IMMUTABLE LANGUAGE sql AS $$
    SELECT ARRAY[x] $$;
CREATE FUNCTION only_element(state anyarray) RETURNS anyelement IMMUTABLE LANGUAGE sql AS $$ SELECT state[1] $$;
CREATE AGGREGATE first(anyelement) (SFUNC = first_step, STYPE = anyarray, INITCOND = '{}', FINALFUNC = only_element);
CREATE AGGREGATE last(anyelement) (SFUNC = last_step, STYPE = anyarray, INITCOND = '{}', FINALFUNC = only_element);

-- Finds every chain of events that take one step after the other: its first instant, and that of its
-- last step so far.
CREATE TYPE step_taken AS (at timestamptz, step int, within interval);
CREATE FUNCTION funnel_step(state step_taken[], at timestamptz, within interval, matches boolean[]) RETURNS step_taken[]
    IMMUTABLE LANGUAGE sql AS $$
    SELECT state || ARRAY(SELECT ROW(at, n, within)::uss.step_taken
        FROM unnest(matches) WITH ORDINALITY AS steps(is_taken, n) WHERE is_taken) $$;
CREATE FUNCTION funnel_end(state step_taken[]) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$
    WITH RECURSIVE chains(steps, begun, reached) AS (
        SELECT 1, s.at, s.at FROM unnest(state) s WHERE s.step = 1
        UNION
        SELECT s.step, begun, s.at FROM chains JOIN unnest(state) s
            ON s.step = steps + 1 AND s.at > reached AND s.at - begun <= s.within)
    SELECT coalesce(max(steps), 0)::bigint FROM chains $$;
CREATE AGGREGATE funnel(timestamptz, interval, VARIADIC boolean[])
    (SFUNC = funnel_step, STYPE = step_taken[], INITCOND = '{}', FINALFUNC = funnel_end);

-- A failed cast of text gives NULL. These casts call the input functions, since a plain cast in here
-- would call itself.
DO $do$
DECLARE cast_to record;
BEGIN
    FOR cast_to IN SELECT * FROM (VALUES
        ('int', 'int4in(textout(x))'), ('bigint', 'int8in(textout(x))'), ('boolean', 'boolin(textout(x))'),
        ('numeric', 'round(numeric_in(textout(x), 0, -1), 9)'), ('date', 'date_in(textout(x))'),
        ('timestamptz', 'timestamptz_in(textout(x), 0, -1)'), ('timestamp', 'timestamp_in(textout(x), 0, -1)'),
        ('interval', 'interval_in(textout(x), 0, -1)')
    ) AS known (type, reading) LOOP
        EXECUTE format('CREATE FUNCTION text_to_%1$s(x text) RETURNS %1$s STABLE STRICT LANGUAGE plpgsql AS
            $b$ BEGIN RETURN %2$s; EXCEPTION WHEN data_exception THEN RETURN NULL; END $b$', cast_to.type, cast_to.reading);
        EXECUTE format('CREATE CAST (text AS %1$s) WITH FUNCTION text_to_%1$s(text)', cast_to.type);
    END LOOP;
END $do$;

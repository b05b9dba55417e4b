-- Text functions where DuckDB's differ from PostgreSQL's, and JSON as text. As in macros.sql,
-- one-element lists bind a value to a name.

-- A count or place for DuckDB's functions, which report an error beyond 32 bits. No text is so long.
CREATE OR REPLACE MACRO user_segment_analytics.uss_place(n) AS list_transform([n], lambda n:
    CASE WHEN n > 2147483647 THEN 2147483647 WHEN n < -2147483647 THEN -2147483647 ELSE n END)[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_left(x, n) AS left(x, user_segment_analytics.uss_place(n));
CREATE OR REPLACE MACRO user_segment_analytics.uss_right(x, n) AS right(x, user_segment_analytics.uss_place(n));

-- DuckDB counts negative places from the end; here they are before the text.
CREATE OR REPLACE MACRO user_segment_analytics.uss_substring(x, place) AS list_transform([{'x': x, 'place': place}],
    lambda a: CASE WHEN a.place < 1 THEN a.x
        ELSE substring(a.x, CAST(user_segment_analytics.uss_place(a.place) AS BIGINT)) END)[1];
CREATE OR REPLACE MACRO user_segment_analytics.uss_substring_for(x, place, n) AS list_transform(
    [{'x': x, 'from': CAST(place AS HUGEINT), 'n': CAST(n AS HUGEINT)}],
    lambda a: CASE WHEN a.n < 0 THEN NULL
        WHEN a.from + a.n <= greatest(a.from, 1) THEN left(a.x, 0)
        ELSE substring(a.x, CAST(user_segment_analytics.uss_place(greatest(a.from, 1)) AS BIGINT),
            CAST(user_segment_analytics.uss_place(a.from + a.n - greatest(a.from, 1)) AS BIGINT)) END)[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_split_part(x, separator, n) AS list_transform(
    [{'x': x, 'separator': separator, 'n': n}],
    lambda a: CASE WHEN a.x IS NULL OR a.separator IS NULL OR a.n IS NULL OR a.n = 0 THEN NULL
        WHEN a.separator = '' THEN CASE WHEN a.n IN (1, -1) THEN a.x ELSE '' END
        ELSE coalesce(string_split(a.x, a.separator)[a.n], '') END)[1];

-- `a || b || …`, with the parts as a list. A text beyond a mebibyte is NULL, and is not made: the
-- length is computed first.
CREATE OR REPLACE MACRO user_segment_analytics.uss_concat(parts) AS list_transform([parts], lambda t:
    CASE WHEN list_count(t) = len(t) AND list_sum(list_transform(t, lambda part: strlen(part))) <= 1048576
    THEN array_to_string(t, '') END)[1];
CREATE OR REPLACE MACRO user_segment_analytics.uss_replace(x, what, new) AS list_transform(
    [{'x': x, 'what': what, 'new': new}],
    lambda a: CASE WHEN a.what = '' THEN CASE WHEN a.new IS NOT NULL THEN a.x END
        WHEN strlen(a.x) + (strlen(a.x) - strlen(replace(a.x, a.what, ''))) // strlen(a.what)
            * (strlen(a.new) - strlen(a.what)) <= 1048576
        THEN replace(a.x, a.what, a.new) END)[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_strpos(x, part) AS list_transform([{'x': x, 'part': part}],
    lambda a: CASE WHEN a.part = '' AND a.x IS NOT NULL THEN 1 ELSE instr(a.x, a.part) END)[1];

-- Seconds since 1970. Digits beyond microseconds are cut off; NULL outside the years 0001 to 9999.
CREATE OR REPLACE MACRO user_segment_analytics.uss_to_timestamp(x) AS list_transform([x], lambda s:
    CASE WHEN s >= -62135596800 AND s < 253402300800 THEN
        make_timestamptz(CAST(floor(s) AS BIGINT) * 1000000 + CAST(floor((s - floor(s)) * 1000000) AS BIGINT)) END)[1];

-- The value of `->>`: the string itself, NULL for JSON's null, and for lists and objects PostgreSQL's
-- text of a jsonb, with blanks after commas and colons. The keys are stored in jsonb's order. The
-- comma at the end lets the expression skip every string in quotes as a whole.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_text(x, path) AS CASE
    WHEN json_type(x, path) IN ('ARRAY', 'OBJECT') THEN left(regexp_replace(json_extract_string(x, path) || ',',
        '((?:[^",:]|"(?:[^"\\]|\\.)*")*)([,:])', '\1\2 ', 'g'), -2)
    ELSE json_extract_string(x, path) END;

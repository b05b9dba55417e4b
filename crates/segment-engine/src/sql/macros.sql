-- The arithmetic of the language where DuckDB's own differs: DECIMAL(38,9) without floating point, NULL instead of errors.
-- Run by every connection's database before a generated query; repeating it changes nothing.
--
-- A decimal is taken apart into whole `units` and `nanos` (10⁻⁹), both HUGEINT and of the decimal's sign, since its
-- scaled form times another needs more than DuckDB's 128 bits. One-element lists with a lambda bind a value to a name:
-- a macro that repeated its argument would double the text of nested calls at each level.

CREATE OR REPLACE MACRO user_segment_analytics.uss_units(x) AS CAST(trunc(x) AS HUGEINT);

CREATE OR REPLACE MACRO user_segment_analytics.uss_nanos(x) AS CAST((x - trunc(x)) * 1000000000 AS HUGEINT);

-- Units and nanos put together; NULL if that is no DECIMAL(38,9).
CREATE OR REPLACE MACRO user_segment_analytics.uss_decimal(units, nanos) AS TRY(
    CAST(units AS DECIMAL(38,9)) + CAST(CAST(nanos AS DECIMAL(18,0)) * 0.000000001::DECIMAL(9,9) AS DECIMAL(38,9)));

-- a * b, half away from zero. Intermediate sums overflow only where the product does.
CREATE OR REPLACE MACRO user_segment_analytics.uss_mul(a, b) AS TRY(list_transform([{'x': a, 'y': b}], lambda p:
    sign(p.x) * sign(p.y) * list_transform([
        user_segment_analytics.uss_units(abs(p.x)) * user_segment_analytics.uss_units(abs(p.y)) * 1000000000::HUGEINT
        + user_segment_analytics.uss_units(abs(p.x)) * user_segment_analytics.uss_nanos(abs(p.y))
        + user_segment_analytics.uss_nanos(abs(p.x)) * user_segment_analytics.uss_units(abs(p.y))
        + (user_segment_analytics.uss_nanos(abs(p.x)) * user_segment_analytics.uss_nanos(abs(p.y)) + 500000000::HUGEINT)
            // 1000000000::HUGEINT
    ], lambda n: user_segment_analytics.uss_decimal(n // 1000000000::HUGEINT, n % 1000000000::HUGEINT))[1])[1]);

-- r / b in nanos, half up, for 0 <= r < b <= 10³⁸. Where r * 10⁹ would not fit, by doubling and adding along the bits
-- of 10⁹; `r >= b - r` is `2r >= b` without the overflow.
CREATE OR REPLACE MACRO user_segment_analytics.uss_fraction(r, b) AS CASE
    WHEN b < 100000000000000000000000000000::HUGEINT THEN
        (r * 1000000000::HUGEINT) // b
        + CASE WHEN (r * 1000000000::HUGEINT) % b >= b - (r * 1000000000::HUGEINT) % b THEN 1 ELSE 0 END
    ELSE list_transform([list_reduce(
        list_transform(string_split('0111011100110101100101000000000', ''),
            lambda bit: {'n': 0::HUGEINT, 'r': 0::HUGEINT, 'bit': bit}),
        lambda acc, e: list_transform([
            CASE WHEN acc.r >= b - acc.r THEN {'n': acc.n + acc.n + 1, 'r': acc.r - (b - acc.r)}
                ELSE {'n': acc.n + acc.n, 'r': acc.r + acc.r} END],
            lambda d: CASE WHEN e.bit = '0' THEN {'n': d.n, 'r': d.r, 'bit': e.bit}
                WHEN d.r >= b - r THEN {'n': d.n + 1, 'r': d.r - (b - r), 'bit': e.bit}
                ELSE {'n': d.n, 'r': d.r + r, 'bit': e.bit} END)[1])],
        lambda f: f.n + CASE WHEN f.r >= b - f.r THEN 1 ELSE 0 END)[1]
    END;

-- a / b, half away from zero; NULL if b is zero.
CREATE OR REPLACE MACRO user_segment_analytics.uss_div(a, b) AS TRY(list_transform([{'x': a, 'y': b}], lambda p:
    CASE WHEN p.y <> 0 THEN sign(p.x) * sign(p.y) * list_transform([{
        'x': user_segment_analytics.uss_units(abs(p.x)) * 1000000000::HUGEINT + user_segment_analytics.uss_nanos(abs(p.x)),
        'y': user_segment_analytics.uss_units(abs(p.y)) * 1000000000::HUGEINT + user_segment_analytics.uss_nanos(abs(p.y))}],
        lambda s: user_segment_analytics.uss_decimal(s.x // s.y, user_segment_analytics.uss_fraction(s.x % s.y, s.y)))[1]
    END)[1]);

-- Sums of units and of nanos as a magnitude (0 <= nanos < 10⁹) and a sign.
CREATE OR REPLACE MACRO user_segment_analytics.uss_parts(units, nanos) AS list_transform([{'u': units, 'n': nanos}], lambda p:
    list_transform([list_transform([
        CASE WHEN p.n >= 0 THEN p.n // 1000000000::HUGEINT ELSE -((999999999::HUGEINT - p.n) // 1000000000::HUGEINT) END],
        lambda carry: {'u': p.u + carry, 'n': p.n - carry * 1000000000::HUGEINT})[1]],
        lambda q: CASE WHEN q.u >= 0 THEN {'sign': 1, 'u': q.u, 'n': q.n}
            WHEN q.n = 0 THEN {'sign': -1, 'u': -q.u, 'n': q.n}
            ELSE {'sign': -1, 'u': -q.u - 1, 'n': 1000000000::HUGEINT - q.n} END)[1])[1];

-- The sum, from the sums of units and of nanos: a sum of DECIMAL fails midway where the whole still fits.
CREATE OR REPLACE MACRO user_segment_analytics.uss_sum(units, nanos) AS list_transform(
    [user_segment_analytics.uss_parts(units, nanos)],
    lambda p: p.sign * user_segment_analytics.uss_decimal(p.u, p.n))[1];

-- The average of `count` values, half away from zero, from the same sums.
CREATE OR REPLACE MACRO user_segment_analytics.uss_avg(units, nanos, count) AS list_transform(
    [{'p': user_segment_analytics.uss_parts(units, nanos), 'c': CAST(count AS HUGEINT)}],
    lambda a: list_transform([{'sign': a.p.sign, 'u': a.p.u // a.c, 'r': (a.p.u % a.c) * 1000000000::HUGEINT + a.p.n}],
        lambda q: q.sign * user_segment_analytics.uss_decimal(
            q.u, q.r // a.c + CASE WHEN q.r % a.c >= a.c - q.r % a.c THEN 1 ELSE 0 END))[1])[1];

-- A whole number of microseconds (or of anything) as a decimal with the point moved six places.
CREATE OR REPLACE MACRO user_segment_analytics.uss_millionths(n) AS
    CAST(CAST(n AS DECIMAL(20,0)) * 0.000001::DECIMAL(7,6) AS DECIMAL(38,9));

-- Texts as Postgres reads them; NULL where it would raise an error.
CREATE OR REPLACE MACRO user_segment_analytics.uss_trim(x) AS trim(x, E' \t\n\r\f\v');

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_int(x) AS CASE
    WHEN regexp_full_match(user_segment_analytics.uss_trim(x), '[+-]?[0-9]+')
    THEN TRY_CAST(user_segment_analytics.uss_trim(x) AS BIGINT) END;

-- A BIGINT that must fit 4 or 2 bytes.
CREATE OR REPLACE MACRO user_segment_analytics.uss_int4(x) AS
    list_transform([x], lambda n: CASE WHEN n BETWEEN -2147483648 AND 2147483647 THEN n END)[1];
CREATE OR REPLACE MACRO user_segment_analytics.uss_int2(x) AS
    list_transform([x], lambda n: CASE WHEN n BETWEEN -32768 AND 32767 THEN n END)[1];

-- DuckDB takes signs, blanks and underscores elsewhere too.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_decimal(x) AS CASE
    WHEN regexp_full_match(user_segment_analytics.uss_trim(x), '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?')
    THEN TRY_CAST(user_segment_analytics.uss_trim(x) AS DECIMAL(38,9)) END;

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_bool(x) AS CASE
    WHEN lower(user_segment_analytics.uss_trim(x)) IN ('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1') THEN TRUE
    WHEN lower(user_segment_analytics.uss_trim(x))
        IN ('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0') THEN FALSE END;

-- A time as written: the local time in microseconds, and the offset from UTC, each NULL if it is none.
CREATE OR REPLACE MACRO user_segment_analytics.uss_written_time(x) AS list_transform([regexp_extract(
    lower(trim(x, E' \t\n\r\f')),
    '^(\d{4})-(\d{1,2})-(\d{1,2})(?:(?:t| +)(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?)? *(?:(z|utc|gmt)|([+-])(?:(\d\d)(\d\d)|(\d{1,2})(?::(\d\d)(?::(\d\d))?)?))?)?$',
    ['year', 'month', 'day', 'hour', 'minute', 'second', 'fraction', 'utc', 'sign', 'hh', 'mm', 'h', 'm', 's'])],
    lambda w: {
        'local': CASE WHEN w.year <> '0000' AND coalesce(TRY_CAST(w.minute AS INTEGER), 0) < 60
                AND coalesce(TRY_CAST(w.second AS INTEGER), 0) <= 60
            THEN list_transform([coalesce(TRY_CAST(w.hour AS BIGINT), 0) * 3600000000
                    + coalesce(TRY_CAST(w.minute AS BIGINT), 0) * 60000000 + coalesce(TRY_CAST(w.second AS BIGINT), 0) * 1000000
                    + CAST(left(w.fraction || '000000', 6) AS BIGINT)],
                lambda time: CASE WHEN time <= 86400000000 THEN
                    epoch_us(TRY_CAST(w.year || '-' || lpad(w.month, 2, '0') || '-' || lpad(w.day, 2, '0') AS DATE)) + time END)[1]
            END,
        'offset': CASE WHEN w.sign = '' THEN 0
            WHEN CAST(w.hh || w.h AS INTEGER) < 24 AND coalesce(TRY_CAST(w.mm || w.m AS INTEGER), 0) < 60
                AND coalesce(TRY_CAST(w.s AS INTEGER), 0) < 60
            THEN CAST(w.sign || '1' AS INTEGER) * (CAST(w.hh || w.h AS BIGINT) * 3600000000
                + coalesce(TRY_CAST(w.mm || w.m AS BIGINT), 0) * 60000000 + coalesce(TRY_CAST(w.s AS BIGINT), 0) * 1000000) END
    })[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_instant(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)], lambda w: make_timestamptz(w.local - w.offset))[1];

-- An offset is read and ignored.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_local(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)], lambda w: CASE WHEN w.offset IS NOT NULL THEN make_timestamp(w.local) END)[1];

-- The shortest spelling: 12.5, 3.
CREATE OR REPLACE MACRO user_segment_analytics.uss_decimal_to_text(x) AS rtrim(rtrim(CAST(x AS VARCHAR), '0'), '.');

-- DuckDB's capital of ß is ẞ; the language's, as Postgres', is ß.
CREATE OR REPLACE MACRO user_segment_analytics.uss_upper(x) AS
    array_to_string(list_transform(string_split(x, 'ß'), lambda part: upper(part)), 'ß');

-- Lists and objects. A value alone counts as a list of one where an element is asked for, as in Postgres.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_element(x, place) AS list_transform([x], lambda j:
    CASE json_type(j) WHEN 'ARRAY' THEN json_extract(j, place) WHEN 'OBJECT' THEN NULL
        ELSE CASE WHEN place IN (0, -1) THEN j END END)[1];

-- Whether a text is a key of an object, an element of a list, or the value itself.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_has(x, pointer, wanted) AS CASE json_type(x)
    WHEN 'OBJECT' THEN json_exists(x, pointer)
    WHEN 'ARRAY' THEN len(list_filter(json_extract(x, '$[*]'),
        lambda element: json_type(element) = 'VARCHAR' AND json_extract_string(element, '$') = wanted)) > 0
    WHEN 'VARCHAR' THEN json_extract_string(x, '$') = wanted
    ELSE FALSE END;

-- Whether the value is a number: given as a HUGEINT and as a DOUBLE, each NULL if it has no such form.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_is_number(x, exact, rounded) AS CASE
    WHEN json_type(x) IN ('BIGINT', 'UBIGINT') THEN TRY_CAST(x AS HUGEINT) = exact
    WHEN json_type(x) = 'DOUBLE' THEN TRY_CAST(x AS DOUBLE) = rounded
    ELSE FALSE END;

CREATE OR REPLACE MACRO user_segment_analytics.uss_json_length(x) AS list_transform([x], lambda j:
    CASE WHEN json_type(j) = 'ARRAY' THEN CAST(json_array_length(j) AS BIGINT) END)[1];

-- A text's share of a hundred, by the first 32 bits of its MD5.
CREATE OR REPLACE MACRO user_segment_analytics.uss_bucket(x) AS
    CAST(CAST(CAST('0x' || left(md5(x), 8) AS UBIGINT) % 10000 AS DECIMAL(5,0)) * 0.01::DECIMAL(3,2) AS DECIMAL(38,9));

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

-- A time as written: the day and the time of day in microseconds, and the offset from UTC. Day or offset is NULL if it is none. The spellings are those
-- of `Timestamp::parse` in time/text.rs.
CREATE OR REPLACE MACRO user_segment_analytics.uss_written_time(x) AS list_transform([regexp_extract(
    lower(trim(x, E' \t\n\r\f')),
    '^(\d{4})(?:-(\d{1,2})-(\d{1,2})|/(\d{1,2})/(\d{1,2})|(\d\d)(\d\d)|[-/](\d{3}))(?:(?:t| +)(?:(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d+))?)?|(\d\d)(\d\d)(?:(\d\d)(?:\.(\d+))?)?))?(?:( *)(?:(z|utc|gmt)|([+-])(?:(\d{1,2})(\d\d)|(\d{1,2})(?::(\d\d)(?::(\d\d))?)?)))?$',
    ['year', 'month1', 'day1', 'month2', 'day2', 'month3', 'day3', 'ordinal', 'hour1', 'minute1', 'second1', 'fraction1',
     'hour2', 'minute2', 'second2', 'fraction2', 'gap', 'utc', 'sign', 'hh', 'mm', 'h', 'm', 's'])],
    lambda w: list_transform([{
        'first': TRY_CAST(w.year || '-01-01' AS DATE),
        'date': TRY_CAST(w.year || '-' || lpad(w.month1 || w.month2 || w.month3, 2, '0') || '-'
            || lpad(w.day1 || w.day2 || w.day3, 2, '0') AS DATE),
        'ordinal': TRY_CAST(w.ordinal AS INTEGER),
        'hour': coalesce(TRY_CAST(w.hour1 || w.hour2 AS BIGINT), 0),
        'minute': coalesce(TRY_CAST(w.minute1 || w.minute2 AS BIGINT), 0),
        'second': coalesce(TRY_CAST(w.second1 || w.second2 AS BIGINT), 0),
        'fraction': CAST(left(w.fraction1 || w.fraction2 || '000000', 6) AS BIGINT),
        'sign': w.sign,
        -- To Postgres the sign of 2023-10-31-04:00 is one of the date's.
        'clear': w.sign <> '-' OR w.gap <> '' OR w.hour1 || w.hour2 <> '',
        'offset_hour': coalesce(TRY_CAST(w.hh || w.h AS BIGINT), 0),
        'offset_minute': coalesce(TRY_CAST(w.mm || w.m AS BIGINT), 0),
        'offset_second': coalesce(TRY_CAST(w.s AS BIGINT), 0)
    }], lambda p: {
        'day': CASE WHEN p.minute < 60 AND p.second <= 60 AND p.clear AND year(p.first) > 0
                AND p.hour * 3600000000 + p.minute * 60000000 + p.second * 1000000 + p.fraction <= 86400000000
            THEN epoch_us(CAST(CASE WHEN p.ordinal IS NULL THEN p.date
                WHEN year(p.first + (p.ordinal - 1)) = year(p.first) THEN p.first + (p.ordinal - 1) END AS DATE)) END,
        'time': p.hour * 3600000000 + p.minute * 60000000 + p.second * 1000000 + p.fraction,
        'offset': CASE WHEN p.sign = '' THEN 0
            WHEN p.offset_hour < 16 AND p.offset_minute < 60 AND p.offset_second < 60
            THEN CAST(p.sign || '1' AS INTEGER)
                * (p.offset_hour * 3600000000 + p.offset_minute * 60000000 + p.offset_second * 1000000) END
    })[1])[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_instant(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)], lambda w: make_timestamptz(w.day + w.time - w.offset))[1];

-- An offset is read and ignored.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_local(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)],
    lambda w: CASE WHEN w.offset IS NOT NULL THEN make_timestamp(w.day + w.time) END)[1];

-- So is a time, which at 24:00 is of the next day.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_date(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)],
    lambda w: CASE WHEN w.offset IS NOT NULL THEN CAST(make_timestamp(w.day) AS DATE) END)[1];

-- The shortest spelling: 12.5, 3.
CREATE OR REPLACE MACRO user_segment_analytics.uss_decimal_to_text(x) AS rtrim(rtrim(CAST(x AS VARCHAR), '0'), '.');

-- DuckDB's capital of ß is ẞ; the language's, as Postgres', is ß.
CREATE OR REPLACE MACRO user_segment_analytics.uss_upper(x) AS
    array_to_string(list_transform(string_split(x, 'ß'), lambda part: upper(part)), 'ß');

-- The language's arithmetic where DuckDB's differs: DECIMAL(38,9) without floating point, NULL
-- instead of errors. A connection runs this before generated queries. Running it again changes
-- nothing.
--
-- A decimal is split into whole `units` and `nanos` (10⁻⁹), both HUGEINT with the decimal's sign,
-- because the product of two scaled decimals needs more than DuckDB's 128 bits. One-element lists
-- with a lambda bind a value to a name: a macro that repeats its argument would double the text of
-- nested calls at each level.

CREATE OR REPLACE MACRO user_segment_analytics.uss_units(x) AS CAST(trunc(x) AS HUGEINT);

CREATE OR REPLACE MACRO user_segment_analytics.uss_nanos(x) AS CAST((x - trunc(x)) * 1000000000 AS HUGEINT);

-- The decimal of units and nanos; NULL if it does not fit DECIMAL(38,9).
CREATE OR REPLACE MACRO user_segment_analytics.uss_decimal(units, nanos) AS TRY(
    CAST(units AS DECIMAL(38,9)) + CAST(CAST(nanos AS DECIMAL(18,0)) * 0.000000001::DECIMAL(9,9) AS DECIMAL(38,9)));

-- a * b, half away from zero. Intermediate sums overflow only if the product does.
CREATE OR REPLACE MACRO user_segment_analytics.uss_mul(a, b) AS TRY(list_transform([{'x': a, 'y': b}], lambda p:
    sign(p.x) * sign(p.y) * list_transform([
        user_segment_analytics.uss_units(abs(p.x)) * user_segment_analytics.uss_units(abs(p.y)) * 1000000000::HUGEINT
        + user_segment_analytics.uss_units(abs(p.x)) * user_segment_analytics.uss_nanos(abs(p.y))
        + user_segment_analytics.uss_nanos(abs(p.x)) * user_segment_analytics.uss_units(abs(p.y))
        + (user_segment_analytics.uss_nanos(abs(p.x)) * user_segment_analytics.uss_nanos(abs(p.y)) + 500000000::HUGEINT)
            // 1000000000::HUGEINT
    ], lambda n: user_segment_analytics.uss_decimal(n // 1000000000::HUGEINT, n % 1000000000::HUGEINT))[1])[1]);

-- r / b in nanos, half up, for 0 <= r < b <= 10³⁸. If r * 10⁹ does not fit, it doubles and adds
-- along the bits of 10⁹. `r >= b - r` is `2r >= b` without the overflow.
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

-- The sum, from the sums of units and of nanos. DuckDB's sum of DECIMAL can overflow midway even if
-- the result fits.
CREATE OR REPLACE MACRO user_segment_analytics.uss_sum(units, nanos) AS list_transform(
    [user_segment_analytics.uss_parts(units, nanos)],
    lambda p: p.sign * user_segment_analytics.uss_decimal(p.u, p.n))[1];

-- The average of `count` values, half away from zero, from the same sums.
CREATE OR REPLACE MACRO user_segment_analytics.uss_avg(units, nanos, count) AS list_transform(
    [{'p': user_segment_analytics.uss_parts(units, nanos), 'c': CAST(count AS HUGEINT)}],
    lambda a: list_transform([{'sign': a.p.sign, 'u': a.p.u // a.c, 'r': (a.p.u % a.c) * 1000000000::HUGEINT + a.p.n}],
        lambda q: q.sign * user_segment_analytics.uss_decimal(
            q.u, q.r // a.c + CASE WHEN q.r % a.c >= a.c - q.r % a.c THEN 1 ELSE 0 END))[1])[1];

-- A whole number of millionths as a decimal.
CREATE OR REPLACE MACRO user_segment_analytics.uss_millionths(n) AS
    CAST(CAST(n AS DECIMAL(20,0)) * 0.000001::DECIMAL(7,6) AS DECIMAL(38,9));

-- Text as Postgres reads it; NULL where Postgres reports an error.
CREATE OR REPLACE MACRO user_segment_analytics.uss_trim(x) AS trim(x, E' \t\n\r\f' || chr(11));

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_int(x) AS CASE
    WHEN regexp_full_match(user_segment_analytics.uss_trim(x), '[+-]?[0-9]+')
    THEN TRY_CAST(user_segment_analytics.uss_trim(x) AS BIGINT) END;

-- A BIGINT that must fit 4 or 2 bytes.
CREATE OR REPLACE MACRO user_segment_analytics.uss_int4(x) AS
    list_transform([x], lambda n: CASE WHEN n BETWEEN -2147483648 AND 2147483647 THEN n END)[1];
CREATE OR REPLACE MACRO user_segment_analytics.uss_int2(x) AS
    list_transform([x], lambda n: CASE WHEN n BETWEEN -32768 AND 32767 THEN n END)[1];

-- Without an exponent DuckDB reads any number of digits, but it also allows signs, blanks and
-- underscores elsewhere. With an exponent it does not read long numbers, and rounds small ones away
-- from zero, so the point is moved here. `kept` is how many of the digits, without leading zeros,
-- belong to the number times 10⁹; at most 38 fit.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_decimal(x) AS CASE
    WHEN regexp_full_match(user_segment_analytics.uss_trim(x), '[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)')
    THEN TRY_CAST(user_segment_analytics.uss_trim(x) AS DECIMAL(38,9))
    ELSE list_transform([regexp_extract(user_segment_analytics.uss_trim(x),
            '^([+-]?)(?:([0-9]+)\.?([0-9]*)|\.([0-9]+))[eE]([+-]?[0-9]+)$', ['sign', 'whole', 'fraction', 'bare', 'exponent'])],
        lambda w: list_transform([{
            'digits': ltrim(w.whole || w.fraction || w.bare, '0'),
            'kept': length(ltrim(w.whole || w.fraction || w.bare, '0')) - length(w.fraction || w.bare)
                + 9 + TRY_CAST(w.exponent AS BIGINT)}],
            lambda d: CASE
                WHEN abs(TRY_CAST(w.exponent AS BIGINT)) >= 1073741823 OR w.exponent = '' THEN NULL
                WHEN d.kept < 0 OR d.digits = '' THEN 0
                WHEN d.kept <= 38 THEN CAST(w.sign || '1' AS INTEGER) * list_transform([
                    CAST('0' || left(rpad(d.digits, greatest(length(d.digits), 38)::INTEGER, '0'), d.kept) AS HUGEINT)
                        + CASE WHEN substr(d.digits, d.kept + 1, 1) >= '5' THEN 1 ELSE 0 END],
                    lambda n: user_segment_analytics.uss_decimal(n // 1000000000::HUGEINT, n % 1000000000::HUGEINT))[1]
            END)[1])[1]
    END;

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_bool(x) AS CASE
    WHEN lower(user_segment_analytics.uss_trim(x)) IN ('t', 'tr', 'tru', 'true', 'y', 'ye', 'yes', 'on', '1') THEN TRUE
    WHEN lower(user_segment_analytics.uss_trim(x))
        IN ('f', 'fa', 'fal', 'fals', 'false', 'n', 'no', 'of', 'off', '0') THEN FALSE END;

-- A time as written: the day and the time of day in microseconds, and the offset from UTC. Day or
-- offset is NULL if the text is not a time. The spellings are those of `Timestamp::parse` in
-- time/text.rs.
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
        -- Postgres takes the sign in 2023-10-31-04:00 for one of the date.
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

-- An offset is ignored.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_local(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)],
    lambda w: CASE WHEN w.offset IS NOT NULL THEN make_timestamp(w.day + w.time) END)[1];

-- A time is ignored too; 24:00 does not change the date.
CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_date(x) AS list_transform(
    [user_segment_analytics.uss_written_time(x)],
    lambda w: CASE WHEN w.offset IS NOT NULL THEN CAST(make_timestamp(w.day) AS DATE) END)[1];

-- Times are from 4714-11-24 BC to 294246-12-31, dates to 5874897-12-31; NULL outside.
CREATE OR REPLACE MACRO user_segment_analytics.uss_in_time(x) AS nullif(nullif(
    greatest(least(x, TIMESTAMP '294247-01-01 00:00:00'), TIMESTAMP '4714-11-23 (BC) 23:59:59.999999'),
    TIMESTAMP '294247-01-01 00:00:00'), TIMESTAMP '4714-11-23 (BC) 23:59:59.999999');
CREATE OR REPLACE MACRO user_segment_analytics.uss_in_dates(x) AS nullif(nullif(
    greatest(least(x, DATE '5874898-01-01'), DATE '4714-11-23 (BC)'), DATE '5874898-01-01'), DATE '4714-11-23 (BC)');

-- The midnight of a date; NULL after the end of time. For comparisons, it is after all times then.
CREATE OR REPLACE MACRO user_segment_analytics.uss_midnight(x) AS
    user_segment_analytics.uss_in_time(TRY_CAST(x AS TIMESTAMP));
CREATE OR REPLACE MACRO user_segment_analytics.uss_midnight_in_order(x) AS list_transform([x], lambda day: CASE
    WHEN day IS NOT NULL THEN coalesce(make_timestamptz(epoch_us(TRY_CAST(day AS TIMESTAMP))), TIMESTAMPTZ 'infinity') END)[1];

-- There is no year 0: the year before 1 is -1.
CREATE OR REPLACE MACRO user_segment_analytics.uss_written_year(x) AS
    list_transform([x], lambda year: CASE WHEN year > 0 THEN year ELSE year - 1 END)[1];

-- Times as Postgres prints them, with the era at the end.
CREATE OR REPLACE MACRO user_segment_analytics.uss_time_to_text(x) AS
    regexp_replace(CAST(x AS VARCHAR), '^(.*) \(BC\)(.*)$', '\1\2 BC');
CREATE OR REPLACE MACRO user_segment_analytics.uss_instant_to_text(x) AS
    regexp_replace(CAST(x AS VARCHAR) || '+00', '^(.*) \(BC\)(.*)$', '\1\2 BC');

-- The shortest spelling: 12.5, 3.
CREATE OR REPLACE MACRO user_segment_analytics.uss_decimal_to_text(x) AS rtrim(rtrim(CAST(x AS VARCHAR), '0'), '.');

-- Letter by letter, by Unicode's simple mappings. DuckDB's capital of ß is ẞ, but in the language, as
-- in Postgres, it is ß.
CREATE OR REPLACE MACRO user_segment_analytics.uss_upper(x) AS
    array_to_string(list_transform(string_split(x, 'ß'), lambda part: upper(part)), 'ß');

-- An element of a list. A single value counts as a list of one, as in Postgres.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_element(x, place) AS list_transform([x], lambda j:
    CASE json_type(j) WHEN 'ARRAY' THEN json_extract(j, place) WHEN 'OBJECT' THEN NULL
        ELSE CASE WHEN place IN (0, -1) THEN j END END)[1];

-- Whether a string is a key of an object, an element of a list, or the value itself.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_has(x, pointer, wanted) AS CASE json_type(x)
    WHEN 'OBJECT' THEN json_exists(x, pointer)
    WHEN 'ARRAY' THEN len(list_filter(json_extract(x, '$[*]'),
        lambda element: json_type(element) = 'VARCHAR' AND json_extract_string(element, '$') = wanted)) > 0
    WHEN 'VARCHAR' THEN json_extract_string(x, '$') = wanted
    ELSE FALSE END;

-- Whether the value equals a number, which is given as a HUGEINT and as a DOUBLE, each NULL if the
-- number has no such form.
CREATE OR REPLACE MACRO user_segment_analytics.uss_json_is_number(x, exact, rounded) AS CASE
    WHEN json_type(x) IN ('BIGINT', 'UBIGINT') THEN TRY_CAST(x AS HUGEINT) = exact
    WHEN json_type(x) = 'DOUBLE' THEN TRY_CAST(x AS DOUBLE) = rounded
    ELSE FALSE END;

CREATE OR REPLACE MACRO user_segment_analytics.uss_json_length(x) AS list_transform([x], lambda j:
    CASE WHEN json_type(j) = 'ARRAY' THEN CAST(json_array_length(j) AS BIGINT) END)[1];

-- The bucket of a string, from 0.00 to 99.99, by the first 32 bits of its MD5.
CREATE OR REPLACE MACRO user_segment_analytics.uss_bucket(x) AS
    CAST(CAST(CAST('0x' || left(md5(x), 8) AS UBIGINT) % 10000 AS DECIMAL(5,0)) * 0.01::DECIMAL(3,2) AS DECIMAL(38,9));

-- The amounts of an interval, as Postgres reads them: a clock (`2:03:04.5`), years and months
-- (`1-2`), or a number with a unit.
CREATE OR REPLACE MACRO user_segment_analytics.uss_amounts(x) AS list_transform(
    regexp_extract_all(x, '(?:[+-]\s*)?(?:\d+:\d+(?::(?:\d+\.?\d*|\.\d+))?\s*|\d+-\d+\s*|(?:\d+\.?\d*|\.\d+)\s*[a-z]*[ ,]*)'),
    lambda amount: struct_insert(regexp_extract(amount,
        '^([+-]?)\s*(?:(\d+):(\d+)(?::(\d*)\.?(\d*))?\s*|(\d+)-(\d+)\s*|(\d*)\.?(\d*)\s*([a-z]*)([ ,]*))$',
        ['sign', 'hours', 'minutes', 'seconds', 'fraction', 'years', 'months', 'number', 'decimals', 'word', 'after']),
        "text" := amount));

-- The unit of an amount, given the next amount: a number without a unit is days before a clock, and
-- seconds at the end.
CREATE OR REPLACE MACRO user_segment_analytics.uss_amount_unit(amount, next) AS CASE
    WHEN amount.minutes <> '' THEN 'clock'
    WHEN amount.months <> '' THEN 'years and months'
    WHEN amount.word = '' AND next IS NULL THEN CASE WHEN regexp_matches(amount.text, '[\d.]$') THEN 'second' END
    WHEN amount.word = '' THEN
        CASE WHEN next.minutes <> '' AND regexp_matches(amount.text, '[\d.] \s*$') THEN 'day' END
    ELSE CASE
        WHEN amount.word IN ('microsecond', 'microseconds', 'microsecon', 'us', 'usec', 'usecs', 'useconds') THEN 'microsecond'
        WHEN amount.word IN ('millisecond', 'milliseconds', 'ms', 'msec', 'msecs', 'mseconds') THEN 'millisecond'
        WHEN amount.word IN ('second', 'seconds', 'sec', 'secs', 's') THEN 'second'
        WHEN amount.word IN ('minute', 'minutes', 'min', 'mins', 'm') THEN 'minute'
        WHEN amount.word IN ('hour', 'hours', 'hr', 'hrs', 'h') THEN 'hour'
        WHEN amount.word IN ('day', 'days', 'd') THEN 'day'
        WHEN amount.word IN ('week', 'weeks', 'w') THEN 'week'
        WHEN amount.word IN ('month', 'months', 'mon', 'mons') THEN 'month'
        WHEN amount.word IN ('year', 'years', 'yr', 'yrs', 'y') THEN 'year'
        WHEN amount.word IN ('decade', 'decades', 'dec', 'decs') THEN 'decade'
        WHEN amount.word IN ('century', 'centuries', 'cent', 'c') THEN 'century'
        WHEN amount.word IN ('millennium', 'millennia', 'mil', 'mils') THEN 'millennium'
    END END;

-- A fraction (of 10⁹) of a length in microseconds, to the nearest; exactly half is dropped.
CREATE OR REPLACE MACRO user_segment_analytics.uss_part(fraction, length) AS
    (fraction * length) // 1000000000::HUGEINT
    + CASE WHEN (fraction * length) % 1000000000::HUGEINT > 500000000 THEN 1 ELSE 0 END;

-- What an amount adds, without the sign: months, days, microseconds. A fraction of a unit is given in
-- smaller units; that of a year is rounded to months. `n` is the whole number, `f` its fraction (of
-- 10⁹).
CREATE OR REPLACE MACRO user_segment_analytics.uss_amount_of(n, f, unit) AS CASE
    WHEN unit IN ('month', 'week', 'day') THEN list_transform([
            f * CASE unit WHEN 'month' THEN 30 WHEN 'week' THEN 7 ELSE 1 END::HUGEINT], lambda d: {
        'months': CASE unit WHEN 'month' THEN n ELSE 0 END,
        'days': CASE unit WHEN 'month' THEN 0 WHEN 'week' THEN n * 7 ELSE n END + d // 1000000000::HUGEINT,
        'micros': user_segment_analytics.uss_part(d % 1000000000::HUGEINT, 86400000000::HUGEINT)})[1]
    WHEN unit IN ('year', 'decade', 'century', 'millennium') THEN list_transform([
            CASE unit WHEN 'year' THEN 12 WHEN 'decade' THEN 120 WHEN 'century' THEN 1200 ELSE 12000 END::HUGEINT], lambda m: {
        'months': n * m + (f * m + 500000000) // 1000000000::HUGEINT, 'days': 0::HUGEINT, 'micros': 0::HUGEINT})[1]
    ELSE list_transform([
            CASE unit WHEN 'microsecond' THEN 1 WHEN 'millisecond' THEN 1000 WHEN 'second' THEN 1000000
                WHEN 'minute' THEN 60000000 ELSE 3600000000 END::HUGEINT], lambda u: {
        'months': 0::HUGEINT, 'days': 0::HUGEINT, 'micros': n * u + user_segment_analytics.uss_part(f, u)})[1]
    END;

-- The sum of amounts with their units and signs, negated for `ago`; NULL if one of them is not an
-- amount.
CREATE OR REPLACE MACRO user_segment_analytics.uss_interval_sum(amounts, units, is_ago) AS list_transform([list_reduce(
    list_transform(list_zip(amounts, units), lambda pair: list_transform([
        CASE pair[2]
        WHEN 'clock' THEN {'months': 0::HUGEINT, 'days': 0::HUGEINT, 'micros':
            CASE WHEN TRY_CAST(pair[1].minutes AS BIGINT) < 60
                    AND coalesce(TRY_CAST(nullif(pair[1].seconds, '') AS BIGINT), CASE pair[1].seconds WHEN '' THEN 0 END) <= 60
                THEN TRY_CAST(pair[1].hours AS BIGINT)::HUGEINT * 3600000000 + CAST(pair[1].minutes AS BIGINT) * 60000000
                    + coalesce(TRY_CAST(nullif(pair[1].seconds, '') AS BIGINT), 0) * 1000000
                    + CAST(left(pair[1].fraction || '000000', 6) AS BIGINT) END}
        WHEN 'years and months' THEN {'months': CASE WHEN TRY_CAST(pair[1].months AS BIGINT) < 12
                THEN TRY_CAST(pair[1].years AS BIGINT)::HUGEINT * 12 + CAST(pair[1].months AS BIGINT) END,
            'days': 0::HUGEINT, 'micros': 0::HUGEINT}
        ELSE user_segment_analytics.uss_amount_of(
            abs(TRY_CAST(pair[1].sign || '0' || pair[1].number AS BIGINT)::HUGEINT),
            CAST(left(pair[1].decimals || '000000000', 9) AS HUGEINT), pair[2])
        END],
        lambda part: CASE WHEN pair[2] IS NOT NULL AND pair[1].sign = '-'
            THEN {'months': -part.months, 'days': -part.days, 'micros': -part.micros}
            WHEN pair[2] IS NOT NULL THEN part END)[1]),
    lambda a, b: {'months': a.months + b.months, 'days': a.days + b.days, 'micros': a.micros + b.micros},
    {'months': 0::HUGEINT, 'days': 0::HUGEINT, 'micros': 0::HUGEINT})],
    lambda sum: list_transform([to_months(TRY_CAST(sum.months AS INTEGER)) + to_days(TRY_CAST(sum.days AS INTEGER))
        + to_microseconds(TRY_CAST(sum.micros AS BIGINT))], lambda i: CASE WHEN is_ago THEN TRY(-i) ELSE i END)[1])[1];

-- Amounts in words, with nothing between them, and no unit twice. A clock is hours, minutes and
-- seconds.
CREATE OR REPLACE MACRO user_segment_analytics.uss_words_to_interval(x, is_ago) AS list_transform(
    [user_segment_analytics.uss_amounts(x)], lambda amounts: list_transform(
        [list_transform(amounts, lambda amount, place:
            user_segment_analytics.uss_amount_unit(amount, amounts[place + 1]))],
        lambda units: list_transform([flatten(list_transform(units, lambda unit: CASE unit
                WHEN 'clock' THEN ['hour', 'minute', 'second'] WHEN 'years and months' THEN ['year', 'month'] ELSE [unit] END))],
            lambda parts: CASE WHEN len(amounts) > 0 AND list_unique(parts) = len(parts)
                AND array_to_string(list_transform(amounts, lambda amount: amount.text), '') = x
                AND len(list_filter(amounts, lambda amount, place:
                    place < len(amounts) AND NOT regexp_matches(amount.text, '[\s,]$'))) = 0
                THEN user_segment_analytics.uss_interval_sum(amounts, units, is_ago) END)[1])[1])[1];

-- ISO 8601: P1Y2M3DT4H5M6.7S, where M is a month before the T and a minute after it.
CREATE OR REPLACE MACRO user_segment_analytics.uss_iso_to_interval(x) AS list_transform(
    [regexp_extract(x, '^p((?:(?:[+-]\s*)?(?:\d+\.?\d*|\.\d+)[ymwd])*)(t?)((?:(?:[+-]\s*)?(?:\d+\.?\d*|\.\d+)[hms])*)$',
        ['date', 't', 'time'])],
    lambda w: CASE WHEN (w.date <> '' OR w.t <> '') AND (w.time = '' OR w.t <> '') THEN
        user_segment_analytics.uss_interval_sum(
            list_concat(user_segment_analytics.uss_amounts(w.date), user_segment_analytics.uss_amounts(w.time)),
            list_concat(
                list_transform(user_segment_analytics.uss_amounts(w.date), lambda amount:
                    CASE amount.word WHEN 'y' THEN 'year' WHEN 'm' THEN 'month' WHEN 'w' THEN 'week' ELSE 'day' END),
                list_transform(user_segment_analytics.uss_amounts(w.time), lambda amount:
                    CASE amount.word WHEN 'h' THEN 'hour' WHEN 'm' THEN 'minute' ELSE 'second' END)), FALSE) END)[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_text_to_interval(x) AS list_transform(
    [translate(trim(x, E' \t\n\r\f'), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')], lambda text: CASE
        WHEN starts_with(text, 'p') THEN user_segment_analytics.uss_iso_to_interval(text)
        WHEN regexp_matches(text, '[\s,]ago$') THEN user_segment_analytics.uss_words_to_interval(
            ltrim(left(text, length(text) - 3), '@ '), TRUE)
        ELSE user_segment_analytics.uss_words_to_interval(ltrim(text, '@ '), FALSE) END)[1];

-- `extract(epoch FROM interval)`: a year has 365¼ days, the months beyond years have 30, as in
-- Postgres.
CREATE OR REPLACE MACRO user_segment_analytics.uss_interval_epoch(x) AS list_transform([
    datepart('year', x) * 31557600000000::HUGEINT + datepart('month', x) * 2592000000000::HUGEINT
        + datepart('day', x) * 86400000000::HUGEINT + datepart('hour', x) * 3600000000::HUGEINT
        + datepart('minute', x) * 60000000::HUGEINT + datepart('microsecond', x)],
    lambda n: user_segment_analytics.uss_decimal(n // 1000000::HUGEINT, n % 1000000::HUGEINT * 1000))[1];

-- An interval as Postgres prints it: 1 year 2 mons -3 days +04:05:06.7.
CREATE OR REPLACE MACRO user_segment_analytics.uss_interval_to_text(x) AS list_transform([{
        'years': datepart('year', x), 'months': datepart('month', x), 'days': datepart('day', x),
        'micros': datepart('hour', x) * 3600000000::HUGEINT + datepart('minute', x) * 60000000 + datepart('microsecond', x)}],
    lambda i: list_transform([{
        'years': user_segment_analytics.uss_counted(i.years, 'year', FALSE),
        'months': user_segment_analytics.uss_counted(i.months, 'mon', i.years < 0),
        'days': user_segment_analytics.uss_counted(i.days, 'day', CASE WHEN i.months <> 0 THEN i.months < 0 ELSE i.years < 0 END),
        'clock': CASE WHEN i.micros < 0 THEN '-'
                WHEN CASE WHEN i.days <> 0 THEN i.days < 0 WHEN i.months <> 0 THEN i.months < 0 ELSE i.years < 0 END THEN '+'
                ELSE '' END
            || CASE WHEN abs(i.micros) < 36000000000 THEN '0' ELSE '' END || (abs(i.micros) // 3600000000)
            || strftime(make_timestamp(CAST(abs(i.micros) % 3600000000 AS BIGINT)), ':%M:%S')
            || rtrim(rtrim('.' || lpad(CAST(abs(i.micros) % 1000000 AS VARCHAR), 6, '0'), '0'), '.')}],
        lambda t: CASE WHEN x IS NOT NULL THEN rtrim(t.years || t.months || t.days
            || CASE WHEN i.micros <> 0 OR t.years || t.months || t.days = '' THEN t.clock ELSE '' END) END)[1])[1];

CREATE OR REPLACE MACRO user_segment_analytics.uss_counted(number, name, plus) AS CASE WHEN number = 0 THEN ''
    ELSE CASE WHEN plus AND number > 0 THEN '+' ELSE '' END || number || ' ' || name
        || CASE WHEN number = 1 THEN '' ELSE 's' END || ' ' END;

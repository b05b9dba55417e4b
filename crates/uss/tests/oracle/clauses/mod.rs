//! Random clauses: a weighted grammar of the language. It has few different values, so that
//! conditions are often barely true or barely false.

mod texts;

use crate::random::Random;

/// Which clauses to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Everything in the language.
    Whole,
    /// Clauses that PostgreSQL reads as the engine does, without a translation of each construct.
    Portable,
}

pub(crate) const REGIONS: [&str; 6] = ["north", "south", "Élan", "Straße", "İZMİR", "izmir"];
pub(crate) const DEVICES: [&str; 3] = ["mobile", "desktop", ""];
pub(crate) const COUNTRIES: [&str; 3] = ["US", "DE", "us"];
pub(crate) const ACTIVITIES: [&str; 3] = ["page_viewed", "product_purchased", "page_element_clicked"];
pub(crate) const URLS: [&str; 4] = ["/", "/shop", "/shop/cart_10%", "/Shop\n/x"];
pub(crate) const PLANS: [&str; 3] = ["free", "pro", "PRO"];
pub(crate) const EMAILS: [&str; 2] = ["ann@example.org", "bob@example.com"];
const TOTALS: [&str; 6] = ["0", "9.5", "10", "10.000000001", "-3", "25"];
const ZONES: [&str; 5] = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"];
const UNITS: [&str; 6] = ["hour", "day", "week", "month", "quarter", "year"];
const TEXT_COLUMNS: [(&str, &[&str]); 6] = [
    ("region", &REGIONS),
    ("device_type", &DEVICES),
    ("country", &COUNTRIES),
    ("activity_type", &ACTIVITIES),
    ("payload_url", &URLS),
    ("payload->>'coupon'", &["x", "y"]),
];

/// Generates clauses. Every method returns an expression that is valid as an operand without more
/// brackets.
pub(crate) struct Clauses<'r> {
    pub random: &'r mut Random,
    pub dialect: Dialect,
    /// Tags that may be named.
    pub tags: Vec<String>,
    /// The time around which the events of the history happen.
    pub middle: String,
}

impl Clauses<'_> {
    pub(crate) fn clause(&mut self) -> String {
        match self.random.below(20) {
            0..9 => self.formula(2),
            9..17 => self.row_form(),
            17..19 => self.user_only(1),
            _ if self.random.chance(30) => String::new(),
            _ => self.user_only(0),
        }
    }

    fn portable(&self) -> bool {
        self.dialect == Dialect::Portable
    }

    /// Joins the conditions that `leaf` generates with AND, OR and NOT.
    fn boolean(&mut self, depth: usize, leaf: &mut dyn FnMut(&mut Self) -> String) -> String {
        if depth == 0 {
            return leaf(self);
        }
        let mut below = |this: &mut Self| this.boolean(depth - 1, leaf);
        match self.random.below(10) {
            0..3 => format!("({} AND {})", below(self), below(self)),
            3..6 => format!("({} OR {})", below(self), below(self)),
            6 => format!("NOT {}", below(self)),
            7 => format!(
                "({} IS {})",
                below(self),
                self.random.text(&["TRUE", "NOT TRUE", "FALSE", "NOT FALSE", "NULL"])
            ),
            _ => below(self),
        }
    }

    fn formula(&mut self, depth: usize) -> String {
        let aggregate = self.aggregate_condition();
        let rest = self.boolean(depth, &mut |this| match this.random.below(10) {
            0 => this.user_condition(),
            _ => this.aggregate_condition(),
        });
        match self.random.below(3) {
            0 => format!("{aggregate} AND {rest}"),
            1 => format!("{aggregate} OR {rest}"),
            _ => aggregate,
        }
    }

    fn row_form(&mut self) -> String {
        let first = self.event_condition();
        let rest = self.boolean(1, &mut |this| match this.random.below(8) {
            0 => this.user_term(),
            _ => this.event_condition(),
        });
        let operator = self.random.text(&["AND", "AND", "OR"]);
        format!("{first} {operator} {rest}")
    }

    fn user_only(&mut self, depth: usize) -> String {
        self.boolean(depth, &mut Self::user_condition)
    }

    pub(crate) fn comparison(&mut self) -> String {
        self.random.text(&["=", "<>", "<", "<=", ">", ">="])
    }

    // ---- conditions on the user ----

    fn user_condition(&mut self) -> String {
        if self.random.chance(8) { self.clock_condition() } else { self.user_term() }
    }

    /// Returns a condition on the user that is valid inside one on an event too. A condition on the
    /// clock is not.
    fn user_term(&mut self) -> String {
        match self.random.below(17) {
            16 => self.reading_condition("traits"),
            13..15 => self.list_condition("traits"),
            15 => self.bucket_condition(),
            0..4 if !self.tags.is_empty() => {
                let tag = self.random.pick(&self.tags).clone();
                format!("segment('{tag}')")
            }
            0..5 => {
                let (op, plan) = (self.comparison(), self.random.text(&PLANS));
                format!("(traits->>'plan' {op} '{plan}')")
            }
            5 if self.random.chance(30) => {
                self.random.text(&["(traits->'address' IS NULL)", "(traits->'plan' IS NULL)"])
            }
            5 => format!("(traits->'address'->>'city' {})", self.random.text(&["IS NULL", "IS NOT NULL", "= 'Ulm'"])),
            6 => format!("((traits->>'seats')::int {} {})", self.comparison(), self.random.between(0, 3)),
            7 => format!("((traits->>'vip')::boolean IS {})", self.random.text(&["TRUE", "NOT TRUE", "NULL"])),
            8 => format!("(users.email {})", self.random.text(&["LIKE '%.org'", "IS NULL", "= 'ann@example.org'"])),
            9 => format!("(lower(users.name) {} 'bob')", self.comparison()),
            10 => format!("(users.created_at {} {})", self.comparison(), self.now_bound()),
            11 => format!("((traits->>'trial_ends')::timestamptz {} {})", self.comparison(), self.now_bound()),
            _ => self.random.text(&["TRUE", "FALSE", "(1 = 1)", "(NULL = 'a')", "('' = '')"]),
        }
    }

    /// Returns a condition on the clock.
    fn clock_condition(&mut self) -> String {
        let zone = self.random.text(&ZONES);
        match self.random.below(5) {
            // A timestamptz's epoch is a number with a fraction.
            4 => format!(
                "(extract(epoch FROM now()) {} extract(epoch FROM TIMESTAMPTZ '{}') + {})",
                self.comparison(),
                self.middle,
                self.random.text(&["0", "0.5", "-86400.000001"])
            ),
            0 => format!("(extract(dow FROM now()) {} {})", self.comparison(), self.random.between(0, 6)),
            1 => format!(
                "(extract(hour FROM now() AT TIME ZONE '{zone}') {} {})",
                self.comparison(),
                self.random.between(0, 23)
            ),
            2 => format!("(extract(day FROM now()) IN (1, {}))", self.random.between(2, 31)),
            _ => format!("(extract(isodow FROM now() AT TIME ZONE '{zone}') < 6)"),
        }
    }

    // ---- conditions on an event ----

    fn event_condition(&mut self) -> String {
        match self.random.below(22) {
            20 => self.list_condition("payload"),
            21 => self.edge_condition(),
            0..7 => self.text_condition(),
            7..10 => self.number_condition(),
            10..17 => self.time_condition(),
            17 => self.payload_condition(),
            18 => format!("coalesce({}, {})", self.text_condition(), self.random.text(&["TRUE", "FALSE"])),
            _ => {
                let (when, then, other) = (self.text_condition(), self.number_condition(), self.text_condition());
                format!("(CASE WHEN {when} THEN {then} ELSE {other} END)")
            }
        }
    }

    fn text_condition(&mut self) -> String {
        let (column, values) = *self.random.pick(&TEXT_COLUMNS);
        let value = self.quoted(values);
        let other = self.quoted(values);
        match self.random.below(22) {
            18..21 => self.made_text_condition(column),
            21 => self.long_list(column, values),
            0..5 => format!("({column} = {value})"),
            5 => format!("({column} {} {value})", self.comparison()),
            6 => format!("({column} IN ({value}, {other}))"),
            7 => format!(
                "({column} NOT IN ({value}, {}))",
                if self.random.chance(20) { "NULL".to_owned() } else { other }
            ),
            8 => format!("({column} {} {value})", self.random.text(&["IS DISTINCT FROM", "IS NOT DISTINCT FROM"])),
            9 => format!("({column} {})", self.random.text(&["IS NULL", "IS NOT NULL"])),
            10 => format!("({column} {} 'n' AND 'v')", self.random.text(&["BETWEEN", "NOT BETWEEN"])),
            11 => {
                let operator = self.random.text(&["LIKE", "NOT LIKE", "ILIKE", "NOT ILIKE"]);
                let pattern = match self.random.chance(30) {
                    true => self.random.text(&[
                        "'%!%%' ESCAPE '!'",
                        "'%!_1%' ESCAPE '!'",
                        "'%!!%' ESCAPE '!'",
                        "'%oo%' ESCAPE 'o'",
                        "'%\\%' ESCAPE ''",
                        "'/shop/cart_10%%' ESCAPE '%'",
                    ]),
                    false => {
                        let pattern = self.random.text(&["%o%", "p_ge%", "us", "%t", "", "%\\%", "%\n%", "É%"]);
                        format!("'{pattern}'")
                    }
                };
                format!("({column} {operator} {pattern})")
            }
            12 => {
                let pattern = match !self.portable() && self.random.chance(40) {
                    // PostgreSQL reads these in another way, or not at all.
                    true => self.random.text(&[r"^\w+$", r"\W", r"(?x) s h | e d", "[a-z&&[^aeiou]]{3}", r"\p{Lu}"]),
                    false => self.random.text(&["^p", "o.*e", "[0-9]+", "(shop|view)", "s$", "^$", "p.x", "é"]),
                };
                format!("({column} {} '{pattern}')", self.random.text(&["~", "!~", "~*", "!~*"]))
            }
            13 => format!("starts_with({column}, '{}')", self.random.text(&["p", "/shop", ""])),
            14 => format!("({}({column}) = {value})", self.random.text(&["lower", "upper"])),
            15 => format!("(length({column}) {} {})", self.comparison(), self.random.between(0, 6)),
            16 => format!("(coalesce({column}, {value}) = {other})"),
            _ => format!("(nullif({column}, {value}) IS NULL)"),
        }
    }

    fn quoted(&mut self, values: &[&str]) -> String {
        format!("'{}'", self.random.text(values))
    }

    /// Returns a number of one event.
    fn number(&mut self) -> String {
        match self.random.below(9) {
            0..4 => "order_total".to_owned(),
            4 => format!("(order_total {} {})", self.random.text(&["+", "-", "*"]), self.random.text(&TOTALS)),
            5 => format!("(order_total / {})", self.random.text(&["3", "7", "0", "order_total"])),
            6 => format!("round(order_total / 3, {})", self.random.between(0, 4)),
            7 => "abs(order_total)".to_owned(),
            _ => "(payload->>'price')::numeric".to_owned(),
        }
    }

    fn number_condition(&mut self) -> String {
        let number = self.number();
        let value = self.random.text(&TOTALS);
        match self.random.below(8) {
            // The user of an event changes when users merge.
            7 => format!("(user_id {} {})", self.comparison(), self.random.between(1, 6)),
            0..4 => format!("({number} {} {value})", self.comparison()),
            4 => format!("({number} IN ({value}, 9.5))"),
            5 => format!("({number} BETWEEN 0 AND {value})"),
            _ => format!("({number} {})", self.random.text(&["IS NULL", "IS NOT NULL"])),
        }
    }

    fn payload_condition(&mut self) -> String {
        match self.random.below(10) {
            9 => self.reading_condition("payload"),
            6 => format!("(to_timestamp((payload->>'since')::numeric) {} {})", self.comparison(), self.now_bound()),
            7 => format!(
                "(to_timestamp((payload->>'since')::numeric) {} TIMESTAMPTZ '{}')",
                self.comparison(),
                self.middle
            ),
            0 => format!("(payload->'cart'->>'size' {} 'L')", self.comparison()),
            1 => format!("(CAST(payload->>'seats' AS INT) {} {})", self.comparison(), self.random.between(0, 3)),
            2 => format!("((payload->>'gift')::boolean {})", self.random.text(&["IS TRUE", "IS NULL", "= FALSE"])),
            3 => "(payload->'cart' IS NULL)".to_owned(),
            4 => format!("((payload->>'expires')::timestamptz {} {})", self.comparison(), self.now_bound()),
            5 => format!("((payload->>'expires')::date {} DATE '{}')", self.comparison(), &self.middle[..10]),
            _ => self.random.text(&[
                "(payload->'cart'->>'lines' IS NOT NULL)",
                "(payload->'cart'->>'lines' = '[1, 2.5, \"a,b:c\"]')",
                "(payload->>'cart' = '{\"id\": 7, \"size\": \"S\", \"lines\": [1, 2.5, \"a,b:c\"]}')",
                "(payload->>'cart' < '{\"size\": \"M\"}')",
                "(length(payload->>'cart') > 13)",
                "(traits->>'address' = '{\"city\": \"Ulm\"}')",
                "(payload->'cart'->'lines'->>'0' IS NULL)",
                "(payload->'cart'->'lines' IS NULL)",
                "(payload->'cart'->>'0' = 'zero')",
                "(payload->>'coupon' IS NULL AND payload->'coupon' IS NOT NULL)",
            ]),
        }
    }

    // ---- time ----

    pub(crate) fn interval(&mut self) -> String {
        if !self.portable() && self.random.chance(10) {
            return self.random.text(&["INTERVAL 7 DAY", "INTERVAL '2' DAY", "INTERVAL 1 MONTH"]);
        }
        let length = [
            "7 days",
            "7 days",
            "1 day",
            "36 hours",
            "90 minutes",
            "1 month",
            "1 month",
            "3 months",
            "1 year",
            "1 month 2 days",
            "2 weeks",
            "0 days",
            "1 microsecond",
            "-1 day",
        ];
        format!("INTERVAL '{}'", self.random.text(&length))
    }

    /// Returns g(now()), of type timestamptz.
    pub(crate) fn now_bound(&mut self) -> String {
        let now = if self.portable() || self.random.chance(85) { "now()" } else { "CURRENT_TIMESTAMP" };
        let (interval, unit, zone) = (self.interval(), self.random.text(&UNITS), self.random.text(&ZONES));
        match self.random.below(10) {
            0..5 => format!("({now} - {interval})"),
            5 => now.to_owned(),
            6 => format!("({now} + {interval})"),
            7 => format!("(date_trunc('{unit}', {now}) - {interval})"),
            8 => format!("(date_trunc('{unit}', {now} AT TIME ZONE '{zone}') AT TIME ZONE '{zone}')"),
            _ => format!("((date_trunc('day', {now} AT TIME ZONE '{zone}') - {interval}) AT TIME ZONE '{zone}')"),
        }
    }

    fn time_condition(&mut self) -> String {
        let column = self.random.text(&["created_at", "created_at", "created_at", "processed_at"]);
        self.time_condition_on(&column)
    }

    /// Returns a condition on a timestamptz that does not depend on now.
    fn time_condition_on(&mut self, time: &str) -> String {
        let (op, interval, zone) = (self.comparison(), self.interval(), self.random.text(&ZONES));
        let unit = self.random.text(&UNITS);
        match self.random.below(20) {
            0..7 => format!("({time} {op} {})", self.now_bound()),
            7 => format!("({time} + {interval} {op} {})", self.now_bound()),
            8 => format!("(now() - {time} {op} {interval})"),
            9 => format!("({time} BETWEEN {} AND {})", self.now_bound(), self.now_bound()),
            10 => format!("({time} {op} TIMESTAMPTZ '{}')", self.middle),
            11 => format!("({time} {op} '{}')", self.middle),
            12 if self.random.chance(30) => format!("({time}::date {op} now()::date - {})", self.random.between(0, 40)),
            12 => format!("({time}::date {op} now()::date)"),
            13 => format!("(({time} AT TIME ZONE '{zone}')::date {op} (now() AT TIME ZONE '{zone}')::date)"),
            14 => format!("(date_trunc('{unit}', {time}) = date_trunc('{unit}', now()))"),
            15 => format!("({time} AT TIME ZONE '{zone}' {op} now() AT TIME ZONE '{zone}' - {interval})"),
            16 => format!("(extract(hour FROM {time} AT TIME ZONE '{zone}') {op} {})", self.random.between(0, 23)),
            17 => {
                let field = self
                    .random
                    .text(&["dow", "isodow", "doy", "week", "day", "month", "quarter", "year", "epoch", "second"]);
                format!("(extract({field} FROM {time}) {op} {})", self.random.between(0, 30))
            }
            18 => format!("({time} - TIMESTAMPTZ '{}' {op} {interval})", self.middle),
            _ if self.random.chance(30) => {
                format!("({time}::date {op} DATE '{}' + {})", &self.middle[..10], self.random.between(-40, 40))
            }
            _ => format!("({time}::date {op} DATE '{}')", &self.middle[..10]),
        }
    }

    // ---- aggregates ----

    fn filter(&mut self) -> String {
        if self.random.chance(20) {
            return String::new();
        }
        let depth = self.random.below(2);
        let condition = self.boolean(depth, &mut Self::event_condition);
        // The event column is there because PostgreSQL moves an aggregate of outer columns alone to
        // the outer query.
        let condition = match self.random.chance(12) {
            true if self.portable() => format!("created_at IS NOT NULL AND {} AND {condition}", self.user_term()),
            true => format!("{} {} {condition}", self.user_term(), self.random.text(&["AND", "OR"])),
            false => condition,
        };
        format!(" FILTER (WHERE {condition})")
    }

    /// Returns an aggregate that is a whole number.
    fn count(&mut self) -> String {
        let what = match self.random.below(6) {
            0..4 => "*".to_owned(),
            4 => format!(
                "DISTINCT {}",
                self.random.text(&["region", "created_at::date", "order_total", "activity_type"])
            ),
            _ => self.random.text(&["order_total", "payload->>'coupon'", "country"]),
        };
        format!("count({what}){}", self.filter())
    }

    /// Returns an aggregate that is a decimal.
    fn total(&mut self) -> String {
        let function = self.random.text(&["sum", "sum", "avg", "min", "max"]);
        format!("{function}({}){}", self.number(), self.filter())
    }

    /// Returns a funnel of one to four steps.
    fn funnel(&mut self) -> String {
        let lengths = ["1 day", "7 days", "7 days", "30 days", "36 hours", "90 minutes", "100 days", "1 microsecond"];
        let mut steps: Vec<String> = (0..self.random.between(1, 4)).map(|_| self.step(1)).collect();
        if self.random.chance(8) {
            let plan = self.random.text(&PLANS);
            let term = match self.tags.is_empty() || self.random.chance(50) {
                true => format!("traits->>'plan' = '{plan}'"),
                false => format!("segment('{}')", self.random.pick(&self.tags).clone()),
            };
            steps[0] = format!("{term} {} {}", self.random.text(&["AND", "OR"]), steps[0]);
        }
        format!("funnel(INTERVAL '{}', {}){}", self.random.text(&lengths), steps.join(", "), self.filter())
    }

    /// Returns a condition on an event without now, because time may not change which events are
    /// steps of a funnel.
    fn step(&mut self, depth: usize) -> String {
        match self.random.below(12) {
            0..5 => format!("activity_type = {}", self.quoted(&ACTIVITIES)),
            5..7 => self.text_condition(),
            7 => self.number_condition(),
            8 => format!("(created_at {} TIMESTAMPTZ '{}')", self.comparison(), self.middle),
            9..11 if depth > 0 => {
                format!("({} {} {})", self.step(depth - 1), self.random.text(&["AND", "OR"]), self.step(depth - 1))
            }
            _ => self.random.text(&["TRUE", "region IS NOT NULL", "order_total > 0"]),
        }
    }

    fn aggregate_condition(&mut self) -> String {
        let op = self.comparison();
        match self.random.below(28) {
            24..27 => format!("({} {op} {})", self.funnel(), self.random.between(0, 4)),
            27 => format!("({} {op} {})", self.funnel(), self.count()),
            0..8 => format!("({} {op} {})", self.count(), self.random.between(0, 4)),
            8..11 => format!("({} {op} {})", self.total(), self.random.text(&TOTALS)),
            11 => format!("(coalesce({}, 0) {op} {})", self.total(), self.random.text(&TOTALS)),
            12 => format!("({} IS {})", self.total(), self.random.text(&["NULL", "NOT NULL"])),
            13..15 => {
                let condition = self.event_condition();
                let aggregate = format!("bool_{}({condition}){}", self.random.text(&["or", "and"]), self.filter());
                format!("({aggregate} {})", self.random.text(&["IS TRUE", "IS NULL", "= TRUE", "IS NOT FALSE"]))
            }
            15..17 => {
                let (column, values) = *self.random.pick(&TEXT_COLUMNS);
                let aggregate =
                    format!("{}({column}){}", self.random.text(&["first", "last", "min", "max"]), self.filter());
                match self.random.below(3) {
                    0 => format!("({aggregate} IS NULL)"),
                    _ => format!("({aggregate} {op} {})", self.quoted(values)),
                }
            }
            17..20 => {
                let function = self.random.text(&["min", "max", "first", "last"]);
                let column = self.random.text(&["created_at", "processed_at"]);
                let aggregate = format!("{function}({column}){}", self.filter());
                self.time_condition_on(&aggregate)
            }
            20 => format!("(max(created_at){} - min(created_at) {op} {})", self.filter(), self.interval()),
            21 => format!("({} {op} {})", self.count(), self.count()),
            22 => format!("({} * {} {op} {} + 1)", self.count(), self.random.between(1, 3), self.count()),
            _ => format!("({} / {} {op} {})", self.total(), self.count(), self.random.text(&TOTALS)),
        }
    }
}

//! Expressions as SQL. Everything that is written here can be an operand: it is a name, a call, or
//! in parentheses.

use crate::plan::{Aggregate, ArithmeticOp, CompareOp, Expr, Function, Pattern, PatternKind, TrimSide, UserColumn};
use crate::sql::aggregate::value_sql;
use crate::sql::cast::{cast_int_sql, cast_sql, literal_sql};
use crate::sql::text::{call, quoted};
use crate::sql::{json, time};
use crate::time::Timestamp;
use crate::value::Type;

/// Writes the expressions of one plan. Events are `e`, users `u`, traits `t`, aggregates `a`, the
/// funnel with index i is `f<i>`, and the members of the plan's segment with index i are `s<i>`.
pub(super) struct ExprWriter<'a> {
    aggregates: &'a [Aggregate],
    now: Timestamp,
}

impl<'a> ExprWriter<'a> {
    pub(super) fn new(aggregates: &'a [Aggregate], now: Timestamp) -> ExprWriter<'a> {
        ExprWriter { aggregates, now }
    }

    pub(super) fn sql(&self, expr: &Expr) -> String {
        match expr {
            Expr::Literal(value, ty) => literal_sql(value, *ty),
            Expr::Event(column) => format!("e.{}", column.table_name()),
            Expr::Payload(path) => json::at_path("e.payload", path),
            Expr::Trait(path) => json::at_path("t.traits", path),
            Expr::User(column) => format!("u.{}", user_column(*column)),
            Expr::Aggregate(index, _) => self.aggregate(*index),
            Expr::AggregateBy { terms, cases, .. } => self.aggregate_by(terms, cases),
            Expr::Segment(index) => format!("(s{index}.user_id IS NOT NULL)"),
            Expr::Bucket(name) => call("bucket", &[&format!("{} || ':' || u.id", quoted(name))]),
            Expr::JsonTest(inner, test) => json::tested(&self.sql(inner), test),
            Expr::TimeCompare(compare) => {
                let bound = time::bound(&compare.bound, self.now);
                let (x, x_type) = (self.sql(&compare.x), compare.x.value_type());
                compare_sql(compare.op, (&x, x_type), (&bound, compare.bound.value_type()))
            }
            Expr::Compare(op, left, right) => {
                let (l, r) = (self.sql(left), self.sql(right));
                compare_sql(*op, (&l, left.value_type()), (&r, right.value_type()))
            }
            Expr::NotDistinct(left, right) => {
                let (l, r) = common((&self.sql(left), left.value_type()), (&self.sql(right), right.value_type()));
                format!("({l} IS NOT DISTINCT FROM {r})")
            }
            Expr::And(items) => self.joined(items, " AND "),
            Expr::Or(items) => self.joined(items, " OR "),
            Expr::Not(inner) => format!("(NOT {})", self.sql(inner)),
            Expr::IsNull(inner) => format!("({} IS NULL)", self.sql(inner)),
            Expr::IsTrue(inner) => format!("coalesce({}, FALSE)", self.sql(inner)),
            Expr::InList(x, items) => self.in_list(x, items),
            Expr::Match(x, pattern) => match_sql(&self.sql(x), pattern),
            Expr::Arithmetic(op, left, right) => self.arithmetic(*op, left, right),
            Expr::Negate(inner) => format!("TRY(-{})", self.sql(inner)),
            Expr::Case { branches, otherwise } => self.case(branches, otherwise),
            Expr::Coalesce(items) => format!("coalesce({})", self.list(items)),
            Expr::Call(function, arguments) => self.function(function, arguments),
            Expr::Cast(inner, ty) => cast_sql(&self.sql(inner), inner.value_type(), *ty),
            Expr::CastInt(inner, bytes) => cast_int_sql(&self.sql(inner), inner.value_type(), *bytes),
            Expr::Steps(_) => unreachable!("a funnel's steps are written one by one"),
        }
    }

    fn list(&self, items: &[Expr]) -> String {
        items.iter().map(|item| self.sql(item)).collect::<Vec<_>>().join(", ")
    }

    fn joined(&self, items: &[Expr], operator: &str) -> String {
        format!("({})", items.iter().map(|item| self.sql(item)).collect::<Vec<_>>().join(operator))
    }

    fn aggregate(&self, index: usize) -> String {
        value_sql(index, &self.aggregates[index])
    }

    /// Writes a choice among aggregates. The digits of the case's index are the terms' truths, the
    /// first is the most significant.
    fn aggregate_by(&self, terms: &[Expr], cases: &[usize]) -> String {
        let Some((term, rest)) = terms.split_first() else {
            return self.aggregate(cases[0]);
        };
        let term = self.sql(term);
        let third = cases.len() / 3;
        let [is_true, is_false, is_null] =
            [0, 1, 2].map(|digit| self.aggregate_by(rest, &cases[digit * third..(digit + 1) * third]));
        format!("(CASE WHEN {term} THEN {is_true} WHEN NOT {term} THEN {is_false} ELSE {is_null} END)")
    }

    /// Times of different types are compared as instants, so such a list becomes comparisons.
    fn in_list(&self, x: &Expr, items: &[Expr]) -> String {
        let ty = x.value_type();
        if items.iter().all(|item| item.value_type() == ty) {
            return format!("({} IN ({}))", self.sql(x), self.list(items));
        }
        let x = self.sql(x);
        let equals =
            items.iter().map(|item| compare_sql(CompareOp::Eq, (&x, ty), (&self.sql(item), item.value_type())));
        format!("({})", equals.collect::<Vec<_>>().join(" OR "))
    }

    /// Collects the parts of `a || b || c` for one call, because DuckDB needs seconds to plan
    /// nested calls.
    fn parts(&self, expr: &Expr, parts: &mut Vec<String>) {
        match expr {
            Expr::Call(Function::Concat, sides) => sides.iter().for_each(|side| self.parts(side, parts)),
            other => parts.push(self.sql(other)),
        }
    }

    fn case(&self, branches: &[(Expr, Expr)], otherwise: &Expr) -> String {
        let whens = branches.iter().map(|(when, then)| format!("WHEN {} THEN {}", self.sql(when), self.sql(then)));
        format!("(CASE {} ELSE {} END)", whens.collect::<Vec<_>>().join(" "), self.sql(otherwise))
    }

    fn arithmetic(&self, op: ArithmeticOp, left: &Expr, right: &Expr) -> String {
        let (l, r) = (self.sql(left), self.sql(right));
        let operator = match op {
            ArithmeticOp::Add => '+',
            ArithmeticOp::Sub => '-',
            ArithmeticOp::Mul => '*',
            ArithmeticOp::Div => '/',
        };
        match (op, left.value_type(), right.value_type()) {
            (ArithmeticOp::Div, Type::Int, Type::Int) => {
                call("div", &[&format!("CAST({l} AS DECIMAL(38,9))"), &format!("CAST({r} AS DECIMAL(38,9))")])
            }
            (ArithmeticOp::Div, _, _) => call("div", &[&l, &r]),
            (ArithmeticOp::Mul, Type::Decimal, _) => call("mul", &[&l, &r]),
            (_, time @ (Type::Timestamp | Type::LocalTimestamp | Type::Date), Type::Interval) => {
                time::shifted(&l, time, operator, &r)
            }
            (_, Type::Interval, time @ (Type::Timestamp | Type::LocalTimestamp | Type::Date)) => {
                time::shifted(&r, time, operator, &l)
            }
            (_, Type::Timestamp, Type::Timestamp) => {
                format!("TRY({} - {})", time::as_local(&l, Type::Timestamp), time::as_local(&r, Type::Timestamp))
            }
            (_, Type::Date, Type::Date) => format!("CAST({l} - {r} AS BIGINT)"),
            (_, Type::Date, Type::Int) => time::moved_date(&l, operator, &r),
            (_, Type::Int, Type::Date) => time::moved_date(&r, operator, &l),
            _ => format!("TRY({l} {operator} {r})"),
        }
    }

    fn function(&self, function: &Function, arguments: &[Expr]) -> String {
        let x = self.sql(&arguments[0]);
        let ty = arguments[0].value_type();
        match function {
            Function::Lower => format!("lower({x})"),
            Function::Upper => call("upper", &[&x]),
            Function::Length => format!("length({x})"),
            Function::StartsWith => format!("starts_with({x}, {})", self.sql(&arguments[1])),
            Function::Round(_) if ty == Type::Int => x,
            Function::Round(places) => format!("TRY(CAST(round({x}, {places}) AS DECIMAL(38,9)))"),
            Function::Abs => format!("TRY(abs({x}))"),
            Function::NullIf => {
                let (a, b) = ((x.as_str(), ty), (&*self.sql(&arguments[1]), arguments[1].value_type()));
                format!("(CASE WHEN {} THEN NULL ELSE {x} END)", compare_sql(CompareOp::Eq, a, b))
            }
            Function::DateTrunc(unit) => time::truncated(*unit, &x, ty),
            Function::Extract(field) if ty == Type::Interval => time::extracted_from_interval(*field, &x),
            Function::Extract(field) => time::extracted(*field, &x, ty),
            Function::AtTimeZone(zone) => time::at_zone(&x, zone.name()),
            Function::Concat => {
                let mut parts = Vec::new();
                self.parts(&arguments[0], &mut parts);
                self.parts(&arguments[1], &mut parts);
                call("concat", &[&format!("[{}]", parts.join(", "))])
            }
            Function::Trim(TrimSide::Both) => format!("trim({})", self.list(arguments)),
            Function::Trim(TrimSide::Leading) => format!("ltrim({})", self.list(arguments)),
            Function::Trim(TrimSide::Trailing) => format!("rtrim({})", self.list(arguments)),
            Function::Left => call("left", &[&self.list(arguments)]),
            Function::Right => call("right", &[&self.list(arguments)]),
            Function::Substring if arguments.len() == 2 => call("substring", &[&self.list(arguments)]),
            Function::Substring => call("substring_for", &[&self.list(arguments)]),
            Function::SplitPart => call("split_part", &[&self.list(arguments)]),
            Function::Replace => call("replace", &[&self.list(arguments)]),
            Function::StrPos => call("strpos", &[&self.list(arguments)]),
            Function::ToTimestamp => call("to_timestamp", &[&x]),
            Function::JsonArrayLength => call("json_length", &[&x]),
        }
    }
}

/// Converts operands that are times of different types, so that they compare.
fn common(left: (&str, Type), right: (&str, Type)) -> (String, String) {
    match left.1 == right.1 {
        true => (left.0.to_owned(), right.0.to_owned()),
        false => (time::in_order(left.0, left.1), time::in_order(right.0, right.1)),
    }
}

fn compare_sql(op: CompareOp, left: (&str, Type), right: (&str, Type)) -> String {
    let operator = match op {
        CompareOp::Eq => "=",
        CompareOp::NotEq => "<>",
        CompareOp::Lt => "<",
        CompareOp::LtEq => "<=",
        CompareOp::Gt => ">",
        CompareOp::GtEq => ">=",
    };
    let (l, r) = common(left, right);
    format!("({l} {operator} {r})")
}

/// DuckDB's LIKE has no escape character by default, and its ILIKE compares lower case, so ILIKE is
/// a regular expression.
fn match_sql(x: &str, pattern: &Pattern) -> String {
    match (pattern.kind(), pattern.ignores_case()) {
        (PatternKind::Like, false) => format!(r"({x} LIKE {} ESCAPE '\')", quoted(pattern.text())),
        _ => format!("regexp_matches({x}, {})", quoted(pattern.re2())),
    }
}

fn user_column(column: UserColumn) -> &'static str {
    match column {
        UserColumn::Email => "email",
        UserColumn::Name => "name",
        UserColumn::CreatedAt => "created_at",
    }
}

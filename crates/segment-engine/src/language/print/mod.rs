//! From expression to text: one spelling per expression, which compiles to the same expression
//! again.

mod spelling;

use spelling::{fixed_interval, interval_literal, literal, text_array, type_name};

use super::quote::quoted;
use crate::plan::{
    Aggregate, AggregateFunction, ArithmeticOp, Expr, Function, JsonPath, JsonStep, JsonTest, NowExpr, NowStep,
    Pattern, PatternKind, TimeCompare, TrimSide, UserColumn,
};
use crate::time::Interval;
use crate::value::{Type, Value};

/// The aggregates and segments that an expression refers to by index.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// For [`Expr::Aggregate`].
    pub aggregates: &'a [Aggregate],
    /// For [`Expr::Segment`].
    pub segments: &'a [String],
}

/// How closely an operator binds, as in Postgres. An operand that binds less closely needs
/// parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
    Is,
    Comparison,
    In,
    Path,
    Sum,
    Product,
    Zone,
    Cast,
    Atom,
}

/// Returns the text of an expression.
pub fn expression(expr: &Expr, names: &Names<'_>) -> String {
    let mut printer = Printer { text: String::new(), names: *names };
    printer.expr(expr, Binding::Or);
    printer.text
}

/// Returns the text of an aggregate.
pub fn aggregate(aggregate: &Aggregate, names: &Names<'_>) -> String {
    let mut printer = Printer { text: String::new(), names: *names };
    printer.aggregate(aggregate);
    printer.text
}

struct Printer<'a> {
    text: String,
    names: Names<'a>,
}

impl Printer<'_> {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Prints `expr`, in parentheses if it binds less closely than `needed`.
    fn expr(&mut self, expr: &Expr, needed: Binding) {
        let in_parentheses = binding(expr) < needed;
        if in_parentheses {
            self.push("(");
        }
        self.node(expr);
        if in_parentheses {
            self.push(")");
        }
    }

    fn node(&mut self, expr: &Expr) {
        match expr {
            Expr::Literal(value, ty) => self.push(&literal(value, *ty)),
            Expr::Event(column) => self.push(column.name()),
            Expr::Payload(path) => self.path("payload", path),
            Expr::Trait(path) => self.path("traits", path),
            Expr::User(column) => self.push(match column {
                UserColumn::Email => "users.email",
                UserColumn::Name => "users.name",
                UserColumn::CreatedAt => "users.created_at",
            }),
            Expr::Aggregate(index, _) => {
                let aggregates = self.names.aggregates;
                self.aggregate(&aggregates[*index]);
            }
            Expr::AggregateBy { terms, cases, ty } => self.aggregate_by(terms, cases, *ty),
            Expr::Segment(index) => {
                let tag = quoted(&self.names.segments[*index]);
                self.push(&format!("segment({tag})"));
            }
            Expr::Bucket(name) => self.push(&format!("bucket({})", quoted(name))),
            Expr::TimeCompare(compare) => self.time_compare(compare),
            Expr::Arithmetic(op, left, right) => {
                let binding = binding(expr);
                self.expr(left, binding);
                self.push(&format!(" {} ", op.symbol()));
                // Left-associative: on the right the same operator needs parentheses.
                self.expr(right, if binding == Binding::Sum { Binding::Product } else { Binding::Zone });
            }
            Expr::Negate(inner) => {
                self.push("-");
                self.expr(inner, Binding::Atom);
            }
            Expr::Case { branches, otherwise } => self.case(branches, otherwise),
            Expr::Coalesce(items) => self.call("coalesce", items),
            Expr::Call(function, arguments) => self.function(function, arguments),
            Expr::Cast(inner, ty) => {
                self.expr(inner, Binding::Cast);
                self.push("::");
                self.push(type_name(*ty));
            }
            Expr::CastInt(inner, bytes) => {
                self.expr(inner, Binding::Cast);
                self.push(if *bytes == 2 { "::smallint" } else { "::int" });
            }
            Expr::Steps(conditions) => self.joined(conditions, ", ", Binding::Or),
            condition => self.condition(condition, ""),
        }
    }

    /// Prints a condition. `not` is "NOT " if the operator itself takes the negation.
    fn condition(&mut self, condition: &Expr, not: &str) {
        match condition {
            Expr::And(items) => self.joined(items, " AND ", Binding::Not),
            Expr::Or(items) => self.joined(items, " OR ", Binding::And),
            Expr::Compare(op, left, right) => {
                self.expr(left, Binding::In);
                self.push(&format!(" {} ", op.symbol()));
                self.beside(right, left);
            }
            Expr::NotDistinct(left, right) => {
                self.expr(left, Binding::In);
                self.push(if not.is_empty() { " IS NOT DISTINCT FROM " } else { " IS DISTINCT FROM " });
                self.expr(right, Binding::In);
            }
            Expr::IsNull(inner) => {
                self.expr(inner, Binding::In);
                self.push(&format!(" IS {not}NULL"));
            }
            Expr::IsTrue(inner) => {
                let (inner, truth) = match &**inner {
                    Expr::Not(inner) if !takes_not(inner) => (inner, "FALSE"),
                    _ => (inner, "TRUE"),
                };
                self.expr(inner, Binding::In);
                self.push(&format!(" IS {not}{truth}"));
            }
            Expr::InList(x, items) => {
                self.expr(x, Binding::Path);
                self.push(&format!(" {not}IN ("));
                for (index, item) in items.iter().enumerate() {
                    self.push(if index > 0 { ", " } else { "" });
                    self.beside(item, x);
                }
                self.push(")");
            }
            Expr::Match(x, pattern) => self.matched(x, pattern, not),
            Expr::JsonTest(x, test) => self.json_test(x, test),
            Expr::Not(inner) if takes_not(inner) => self.condition(inner, "NOT "),
            Expr::Not(inner) => {
                self.push("NOT ");
                self.expr(inner, Binding::Atom);
            }
            other => unreachable!("`node` prints every expression that is not a condition: {other:?}"),
        }
    }

    fn joined(&mut self, items: &[Expr], between: &str, needed: Binding) {
        for (index, item) in items.iter().enumerate() {
            self.push(if index > 0 { between } else { "" });
            self.expr(item, needed);
        }
    }

    /// Prints the right side of a comparison. A whole decimal needs no `.0` if the left side has
    /// the type already.
    fn beside(&mut self, right: &Expr, left: &Expr) {
        match (right, left) {
            (Expr::Literal(Value::Decimal(number), _), left) if !matches!(left, Expr::Literal(..)) => {
                self.push(&number.to_string());
            }
            _ => self.expr(right, Binding::In),
        }
    }

    fn matched(&mut self, x: &Expr, pattern: &Pattern, not: &str) {
        self.expr(x, Binding::Path);
        let operator = match (pattern.kind(), pattern.ignores_case(), not.is_empty()) {
            (PatternKind::Like, false, _) => format!(" {not}LIKE "),
            (PatternKind::Like, true, _) => format!(" {not}ILIKE "),
            (PatternKind::Regex, false, true) => " ~ ".to_owned(),
            (PatternKind::Regex, true, true) => " ~* ".to_owned(),
            (PatternKind::Regex, false, false) => " !~ ".to_owned(),
            (PatternKind::Regex, true, false) => " !~* ".to_owned(),
        };
        self.push(&operator);
        self.push(&quoted(pattern.text()));
    }

    fn time_compare(&mut self, compare: &TimeCompare) {
        let now = now_expression(&compare.bound);
        match &compare.x {
            Expr::Literal(Value::Decimal(number), _) => {
                self.push(&format!("{now} {} {number}", compare.op.flipped().symbol()));
            }
            Expr::Literal(value, ty) => {
                self.push(&format!("{now} {} ", compare.op.flipped().symbol()));
                self.push(&literal(value, *ty));
            }
            x => {
                self.expr(x, Binding::In);
                self.push(&format!(" {} {now}", compare.op.symbol()));
            }
        }
    }

    fn path(&mut self, root: &str, path: &JsonPath) {
        self.push(root);
        for (index, key) in path.keys.iter().enumerate() {
            let is_last = index + 1 == path.keys.len();
            self.push(if is_last && path.as_text { "->>" } else { "->" });
            match key {
                JsonStep::Key(key) => self.push(&quoted(key)),
                JsonStep::Index(index) => self.push(&index.to_string()),
            }
        }
    }

    fn json_test(&mut self, x: &Expr, test: &JsonTest) {
        if let (Expr::Payload(path) | Expr::Trait(path), JsonTest::HoldsAsMember(constant)) = (x, test) {
            let member: serde_json::Map<_, _> =
                [(path.root_key().to_owned(), constant.json().clone())].into_iter().collect();
            let root = if matches!(x, Expr::Payload(_)) { "payload" } else { "traits" };
            return self.push(&format!("{root} @> {}", quoted(&serde_json::Value::from(member).to_string())));
        }
        self.expr(x, Binding::Path);
        self.push(&match test {
            JsonTest::HasAny(texts) | JsonTest::HasAll(texts) if texts.len() == 1 => {
                format!(" ? {}", quoted(&texts[0]))
            }
            JsonTest::HasAny(texts) => format!(" ?| {}", text_array(texts)),
            JsonTest::HasAll(texts) => format!(" ?& {}", text_array(texts)),
            JsonTest::Contains(constant) | JsonTest::HoldsAsMember(constant) => {
                format!(" @> {}", quoted(&constant.json().to_string()))
            }
        });
    }

    fn case(&mut self, branches: &[(Expr, Expr)], otherwise: &Expr) {
        self.push("CASE");
        for (when, then) in branches {
            self.push(" WHEN ");
            self.expr(when, Binding::Or);
            self.push(" THEN ");
            self.expr(then, Binding::Or);
        }
        self.push(" ELSE ");
        self.expr(otherwise, Binding::Or);
        self.push(" END");
    }

    fn call(&mut self, name: &str, arguments: &[Expr]) {
        self.push(name);
        self.push("(");
        for (index, argument) in arguments.iter().enumerate() {
            self.push(if index > 0 { ", " } else { "" });
            self.expr(argument, Binding::Or);
        }
        self.push(")");
    }

    fn function(&mut self, function: &Function, arguments: &[Expr]) {
        match function {
            Function::Lower => self.call("lower", arguments),
            Function::Upper => self.call("upper", arguments),
            Function::Length => self.call("length", arguments),
            Function::StartsWith => self.call("starts_with", arguments),
            Function::Abs => self.call("abs", arguments),
            Function::NullIf => self.call("nullif", arguments),
            Function::JsonArrayLength => self.call("jsonb_array_length", arguments),
            Function::Round(0) => self.call("round", arguments),
            Function::Round(places) => {
                self.call("round", arguments);
                self.text.pop();
                self.push(&format!(", {places})"));
            }
            Function::DateTrunc(unit) => {
                self.push(&format!("date_trunc('{}', ", unit.name()));
                self.expr(&arguments[0], Binding::Or);
                self.push(")");
            }
            Function::Extract(field) => {
                self.push(&format!("extract({} FROM ", field.name()));
                self.expr(&arguments[0], Binding::Or);
                self.push(")");
            }
            Function::AtTimeZone(zone) => {
                self.expr(&arguments[0], Binding::Zone);
                self.push(&format!(" AT TIME ZONE {}", quoted(zone.name())));
            }
            Function::Concat => {
                self.expr(&arguments[0], Binding::Path);
                self.push(" || ");
                self.expr(&arguments[1], Binding::Sum);
            }
            Function::Trim(side) => {
                let name = match side {
                    TrimSide::Both => "btrim",
                    TrimSide::Leading => "ltrim",
                    TrimSide::Trailing => "rtrim",
                };
                match &arguments[1] {
                    Expr::Literal(Value::Text(characters), _) if &**characters == " " => {
                        self.call(name, &arguments[..1])
                    }
                    _ => self.call(name, arguments),
                }
            }
            Function::Left => self.call("left", arguments),
            Function::Right => self.call("right", arguments),
            Function::Substring => self.call("substring", arguments),
            Function::SplitPart => self.call("split_part", arguments),
            Function::Replace => self.call("replace", arguments),
            Function::StrPos => self.call("strpos", arguments),
            Function::ToTimestamp => self.call("to_timestamp", arguments),
        }
    }

    fn aggregate(&mut self, aggregate: &Aggregate) {
        let within;
        let (name, before) = match aggregate.function {
            AggregateFunction::Count => ("count", ""),
            AggregateFunction::CountDistinct => ("count", "DISTINCT "),
            AggregateFunction::Sum => ("sum", ""),
            AggregateFunction::Avg => ("avg", ""),
            AggregateFunction::Min => ("min", ""),
            AggregateFunction::Max => ("max", ""),
            AggregateFunction::BoolOr => ("bool_or", ""),
            AggregateFunction::BoolAnd => ("bool_and", ""),
            AggregateFunction::First => ("first", ""),
            AggregateFunction::Last => ("last", ""),
            AggregateFunction::Funnel { within: micros } => {
                within = format!("{}, ", fixed_interval(micros));
                ("funnel", within.as_str())
            }
        };
        self.push(&format!("{name}({before}"));
        match &aggregate.argument {
            Some(argument) => self.expr(argument, Binding::Or),
            None => self.push("*"),
        }
        self.push(")");
        if let Some(filter) = &aggregate.filter {
            self.push(" FILTER (WHERE ");
            self.expr(filter, Binding::Or);
            self.push(")");
        }
    }

    /// Prints the choice as a CASE: the first term chooses among TRUE, FALSE and NULL, then the
    /// others within.
    fn aggregate_by(&mut self, terms: &[Expr], cases: &[usize], ty: Type) {
        let Some((term, rest)) = terms.split_first() else {
            return self.node(&Expr::Aggregate(cases[0], ty));
        };
        let each = cases.len() / 3;
        self.push("CASE WHEN ");
        self.expr(term, Binding::Or);
        self.push(" THEN ");
        self.aggregate_by(rest, &cases[..each], ty);
        self.push(" WHEN NOT ");
        self.expr(term, Binding::Atom);
        self.push(" THEN ");
        self.aggregate_by(rest, &cases[each..2 * each], ty);
        self.push(" ELSE ");
        self.aggregate_by(rest, &cases[2 * each..], ty);
        self.push(" END");
    }
}

fn binding(expr: &Expr) -> Binding {
    match expr {
        Expr::Or(_) => Binding::Or,
        Expr::And(_) => Binding::And,
        Expr::Not(inner) if takes_not(inner) => binding(inner),
        Expr::Not(_) => Binding::Not,
        Expr::IsNull(_) | Expr::IsTrue(_) | Expr::NotDistinct(..) => Binding::Is,
        Expr::Compare(..) | Expr::TimeCompare(_) => Binding::Comparison,
        // `~` binds closer than a comparison in Postgres, but not in the parser: parentheses are
        // right for both.
        Expr::Match(_, pattern) if pattern.kind() == PatternKind::Regex => Binding::Comparison,
        Expr::InList(..) | Expr::Match(..) => Binding::In,
        Expr::Payload(_) | Expr::Trait(_) | Expr::JsonTest(..) => Binding::Path,
        Expr::Arithmetic(ArithmeticOp::Add | ArithmeticOp::Sub, ..) => Binding::Sum,
        Expr::Arithmetic(..) => Binding::Product,
        // A signed number is not an atom: `-1::text` is read as `-(1::text)`.
        Expr::Negate(_) => Binding::Product,
        Expr::Literal(Value::Int(i64::MIN), _) => Binding::Cast,
        Expr::Literal(Value::Int(number), _) if *number < 0 => Binding::Product,
        Expr::Literal(Value::Decimal(number), _) if number.to_string().starts_with('-') => Binding::Product,
        Expr::Literal(Value::Null, _) => Binding::Cast,
        Expr::Call(Function::AtTimeZone(_), _) => Binding::Zone,
        Expr::Call(Function::Concat, _) => Binding::Path,
        Expr::Cast(..) | Expr::CastInt(..) => Binding::Cast,
        _ => Binding::Atom,
    }
}

/// Conditions whose own operator takes NOT: `IS NOT NULL`, `NOT IN`, `NOT LIKE`, `!~`, `IS DISTINCT
/// FROM`.
fn takes_not(condition: &Expr) -> bool {
    matches!(condition, Expr::IsNull(_) | Expr::IsTrue(_) | Expr::NotDistinct(..) | Expr::InList(..) | Expr::Match(..))
}

/// Returns the text of `g(now())`. Each step wraps the text so far.
fn now_expression(now: &NowExpr) -> String {
    let mut text = "now()".to_owned();
    let mut binds = Binding::Atom;
    for step in &now.steps {
        let operand = |needed: Binding| if binds < needed { format!("({text})") } else { text.clone() };
        (text, binds) = match step {
            NowStep::Add(interval) => (shifted(&operand(Binding::Sum), *interval), Binding::Sum),
            NowStep::Trunc(unit) => (format!("date_trunc('{}', {text})", unit.name()), Binding::Atom),
            NowStep::AtTimeZone(zone) => {
                (format!("{} AT TIME ZONE {}", operand(Binding::Zone), quoted(zone.name())), Binding::Zone)
            }
            NowStep::ToDate => (format!("{}::date", operand(Binding::Cast)), Binding::Cast),
            NowStep::ToLocal => (format!("{}::timestamp", operand(Binding::Cast)), Binding::Cast),
            NowStep::ToTimestamp => (format!("{}::timestamptz", operand(Binding::Cast)), Binding::Cast),
            NowStep::Extract(field) => (format!("extract({} FROM {text})", field.name()), Binding::Atom),
        };
    }
    text
}

/// Prints `operand ± interval`, with a minus if no part of the interval is positive.
fn shifted(operand: &str, interval: Interval) -> String {
    let is_backwards = interval.months <= 0 && interval.days <= 0 && interval.micros <= 0;
    match interval.checked_neg() {
        Some(back) if is_backwards => format!("{operand} - {}", interval_literal(back)),
        _ => format!("{operand} + {}", interval_literal(interval)),
    }
}

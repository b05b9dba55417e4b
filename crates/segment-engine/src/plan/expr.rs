//! The typed expression tree. Every node is well typed by construction: the compiler inserts the
//! casts.

use super::{EventColumn, JsonPath, JsonTest, List, Pattern, TimeCompare};
use crate::value::{ArithmeticOp, CompareOp, Type, Value};

/// An expression over one event (in an [`Aggregate`](super::Aggregate)) or over one user (in a
/// formula), and `now`.
///
/// Boolean nodes follow SQL's three-valued logic; any other node with a NULL operand is NULL unless
/// it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// A constant. NULL carries the type the compiler inferred for it.
    Literal(Value, Type),

    /// A column of the event.
    Event(EventColumn),
    /// `payload->'a'->>'b'` (text) or `payload->'a'->'b'` (JSON, only for further steps and tests).
    Payload(JsonPath),

    /// `traits->'a'->>'b'` or `traits->'a'->'b'`.
    Trait(JsonPath),
    /// A column of the user.
    User(UserColumn),
    /// The value of the plan's aggregate of this index, and its type.
    Aggregate(usize, Type),
    /// The value of one of several aggregates, chosen by conditions on the user that were written
    /// inside the aggregate. `cases` has `3^terms.len()` aggregate indexes; term 0 is the most
    /// significant digit: TRUE 0, FALSE 1, NULL 2.
    #[expect(missing_docs, reason = "explained above")]
    AggregateBy { terms: Vec<Expr>, cases: Vec<usize>, ty: Type },
    /// Whether the user is a member of the plan's segment of this index. Never NULL.
    Segment(usize),

    /// The only node that reads `now`.
    TimeCompare(Box<TimeCompare>),

    /// Both sides have the same type, except that the three time types compare with each other, as
    /// instants in UTC (a date as its midnight). Text compares by bytes.
    Compare(CompareOp, Box<Expr>, Box<Expr>),
    /// `IS NOT DISTINCT FROM`: equality for which NULL is a value. Never NULL.
    NotDistinct(Box<Expr>, Box<Expr>),
    /// At least two operands.
    And(Vec<Expr>),
    /// At least two operands.
    Or(Vec<Expr>),
    /// Logical negation.
    Not(Box<Expr>),
    /// `x IS NULL`. Never NULL.
    IsNull(Box<Expr>),
    /// `x IS TRUE` for a boolean. Never NULL.
    IsTrue(Box<Expr>),
    /// `x IN (…)`, all constants or expressions of the type of `x`.
    InList(Box<Expr>, List),
    /// `LIKE`, `ILIKE`, `~`, `~*` with a constant pattern, of text.
    Match(Box<Expr>, Pattern),

    /// Int with Int (`/` gives Decimal), Decimal with Decimal, time ± Interval, time − time (an
    /// Interval), Interval ± Interval. Overflow and division by zero give NULL.
    Arithmetic(ArithmeticOp, Box<Expr>, Box<Expr>),
    /// Arithmetic negation of an Int, Decimal or Interval.
    Negate(Box<Expr>),
    /// The first branch whose condition is TRUE. All values have one type.
    #[expect(missing_docs, reason = "explained above")]
    Case { branches: Vec<(Expr, Expr)>, otherwise: Box<Expr> },
    /// The first item that is not NULL. All have one type.
    Coalesce(Vec<Expr>),
    /// A scalar function.
    Call(Function, Vec<Expr>),
    /// `x::type`. NULL where the value cannot be cast.
    Cast(Box<Expr>, Type),
    /// A cast to int4 or int2 that is NULL outside its range: 4 or 2 bytes.
    CastInt(Box<Expr>, u8),
    /// The conditions that are TRUE, as the sum of 2^index (an Int); NULL if none is. Only as the
    /// argument of a funnel.
    Steps(Vec<Expr>),

    /// A test of the JSON at a path. The path is an [`Expr::Payload`] or an [`Expr::Trait`] that
    /// ends in `->`.
    JsonTest(Box<Expr>, JsonTest),
    /// `bucket('name')`: the user's bucket among 10,000, as a decimal from 0.00 to 99.99.
    Bucket(String),
}

/// The columns of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the columns explain themselves")]
pub enum UserColumn {
    Email,
    Name,
    CreatedAt,
}

/// A scalar function.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `lower(text)`.
    Lower,
    /// `upper(text)`.
    Upper,
    /// `length(text)`, in characters.
    Length,
    /// `starts_with(text, start)`.
    StartsWith,
    /// `round(number, places)`, half away from zero. Places are 0 to 9.
    Round(u8),
    /// `abs(number)`.
    Abs,
    /// `nullif(a, b)`.
    NullIf,
    /// `date_trunc(unit, x)` of a timestamp (in UTC) or a local timestamp.
    DateTrunc(super::Unit),
    /// `extract(field FROM x)`; a decimal.
    Extract(super::Field),
    /// `x AT TIME ZONE zone`: the local time of a timestamp, or the timestamp of a local time.
    AtTimeZone(super::Zone),
    /// `jsonb_array_length(json)`; NULL for other JSON than an array.
    JsonArrayLength,
    /// `a || b`; NULL beyond [`TEXT_BYTES_MAX`].
    Concat,
    /// `btrim(text, characters)`, `ltrim`, `rtrim`.
    Trim(TrimSide),
    /// `left(text, count)`: the first characters, or all but the last if the count is negative.
    Left,
    /// `right(text, count)`: the last characters, or all but the first if the count is negative.
    Right,
    /// `substring(text, first)` and `substring(text, first, count)`, counted from 1.
    Substring,
    /// `split_part(text, separator, number)`: counted from 1, or from the end if negative.
    SplitPart,
    /// `replace(text, from, to)`; NULL beyond [`TEXT_BYTES_MAX`].
    Replace,
    /// `strpos(text, part)`: the place of the part from 1, or 0 if it is not in the text.
    StrPos,
    /// `to_timestamp(seconds)`: seconds since 1970; NULL outside the years 0001 to 9999.
    ToTimestamp,
}

/// The end of a text that is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum TrimSide {
    Both,
    Leading,
    Trailing,
}

/// How many bytes a text from `||` or `replace` may have; a longer one is NULL. Both can multiply
/// the length of their operands, and `max` or `count(DISTINCT …)` would keep the result per user.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

impl Expr {
    /// Returns the type of its value.
    pub fn value_type(&self) -> Type {
        match self {
            Expr::Literal(_, ty) | Expr::Aggregate(_, ty) | Expr::AggregateBy { ty, .. } | Expr::Cast(_, ty) => *ty,
            Expr::Event(column) => column.value_type(),
            Expr::Payload(path) | Expr::Trait(path) => {
                if path.as_text {
                    Type::Text
                } else {
                    Type::Json
                }
            }
            Expr::User(UserColumn::CreatedAt) => Type::Timestamp,
            Expr::User(UserColumn::Email | UserColumn::Name) => Type::Text,
            Expr::Segment(_)
            | Expr::TimeCompare(_)
            | Expr::Compare(..)
            | Expr::NotDistinct(..)
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::InList(..)
            | Expr::Match(..)
            | Expr::JsonTest(..) => Type::Bool,
            Expr::Bucket(_) => Type::Decimal,
            Expr::Arithmetic(op, left, right) => arithmetic_type(*op, left.value_type(), right.value_type()),
            Expr::Negate(inner) => inner.value_type(),
            Expr::Case { otherwise, .. } => otherwise.value_type(),
            Expr::Coalesce(items) => items.first().map_or(Type::Text, Expr::value_type),
            Expr::Call(function, arguments) => function.value_type(arguments),
            Expr::CastInt(..) | Expr::Steps(_) => Type::Int,
        }
    }
}

fn arithmetic_type(op: ArithmeticOp, left: Type, right: Type) -> Type {
    match (op, left, right) {
        (ArithmeticOp::Div, Type::Int, Type::Int) => Type::Decimal,
        (ArithmeticOp::Sub, Type::Date, Type::Date) => Type::Int,
        (ArithmeticOp::Sub, Type::Timestamp, Type::Timestamp)
        | (ArithmeticOp::Sub, Type::LocalTimestamp, Type::LocalTimestamp) => Type::Interval,
        (_, Type::Date, Type::Interval) => Type::LocalTimestamp,
        (_, Type::Interval, Type::Date) => Type::LocalTimestamp,
        (_, Type::Interval, time @ (Type::Timestamp | Type::LocalTimestamp)) => time,
        (_, Type::Int, Type::Date) => Type::Date,
        _ => left,
    }
}

impl Function {
    fn value_type(&self, arguments: &[Expr]) -> Type {
        match self {
            Function::Lower
            | Function::Upper
            | Function::Concat
            | Function::Trim(_)
            | Function::Left
            | Function::Right
            | Function::Substring
            | Function::SplitPart
            | Function::Replace => Type::Text,
            Function::Length | Function::StrPos | Function::JsonArrayLength => Type::Int,
            Function::ToTimestamp => Type::Timestamp,
            Function::StartsWith => Type::Bool,
            Function::Extract(_) => Type::Decimal,
            Function::AtTimeZone(_) if arguments[0].value_type() == Type::Timestamp => Type::LocalTimestamp,
            Function::AtTimeZone(_) => Type::Timestamp,
            Function::Round(_) | Function::Abs | Function::NullIf | Function::DateTrunc(_) => arguments[0].value_type(),
        }
    }
}

//! A compiled where clause: the typed form that is run, explained, and turned into SQL.

mod expr;
mod flips;
mod instants;
mod json;
mod list;
mod now;
mod pattern;
mod pattern_error;
mod regular;
mod steps;
mod walk;

pub use expr::{Expr, Function, TEXT_BYTES_MAX, TrimSide, UserColumn};
pub use flips::FIELD_STEPS_MAX;
pub use instants::InstantSet;
pub use json::{JsonConstant, JsonPath, JsonStep, JsonTest};
pub use list::List;
pub use now::{NowExpr, NowStep, TimeCompare};
pub use pattern::{Pattern, PatternKind};
pub use pattern_error::{PATTERN_PROGRAM_BYTES_MAX, PatternError};

pub use crate::schema::EventColumn;
pub use crate::time::{Field, Unit, Zone};
pub use crate::value::{ArithmeticOp, CompareOp};

use crate::value::Type;

/// A compiled where clause. Clauses that differ only in form compile to equal plans.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The condition on one user at one instant, of type boolean. It reads events only through
    /// [`Expr::Aggregate`].
    pub formula: Expr,
    /// The distinct aggregates that the formula reads, by index.
    pub aggregates: Vec<Aggregate>,
    /// The distinct tags that the clause names in `segment('…')`, by index.
    pub segments: Vec<String>,
    /// The clause as the engine understands it, in one spelling.
    pub normal_form: String,
}

/// One aggregate over a user's events: `function(argument) FILTER (WHERE filter)`.
///
/// Both expressions are over one event and `now`: they contain no trait, user column, segment or
/// aggregate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aggregate {
    /// What is computed.
    pub function: AggregateFunction,
    /// `None` only for `count(*)`.
    pub argument: Option<Expr>,
    /// Which events are included; `None` for all.
    pub filter: Option<Expr>,
}

/// What an aggregate computes. NULL arguments are skipped, except by `First` and `Last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// `count(*)`, or `count(x)` where an argument is given.
    Count,
    /// `count(DISTINCT x)`.
    CountDistinct,
    /// The sum of integers or decimals: a decimal, or NULL if nothing counts or it overflows.
    Sum,
    /// The average of integers or decimals: a decimal, rounded half away from zero.
    Avg,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// Whether any is true.
    BoolOr,
    /// Whether all are true.
    BoolAnd,
    /// The argument of the first event by (`created_at`, `processed_at`, log position).
    First,
    /// The argument of the last event by (`created_at`, `processed_at`, log position).
    Last,
    /// How many steps the longest chain of events has. The argument is [`Expr::Steps`]. 0 if there
    /// is none, never NULL.
    Funnel {
        /// The last event of a chain is created at most this many microseconds after the first.
        within: i64,
    },
}

impl Aggregate {
    /// Returns the type of its value.
    pub fn value_type(&self) -> Type {
        match self.function {
            AggregateFunction::Count | AggregateFunction::CountDistinct | AggregateFunction::Funnel { .. } => Type::Int,
            AggregateFunction::Sum | AggregateFunction::Avg => Type::Decimal,
            AggregateFunction::BoolOr | AggregateFunction::BoolAnd => Type::Bool,
            AggregateFunction::Min | AggregateFunction::Max | AggregateFunction::First | AggregateFunction::Last => {
                self.argument.as_ref().map_or(Type::Text, Expr::value_type)
            }
        }
    }
}

//! Walking an expression without knowing its nodes.

use super::{Expr, TimeCompare};

impl Expr {
    /// Returns the direct operands in the order in which they are written.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Literal(..)
            | Expr::Event(_)
            | Expr::Payload(_)
            | Expr::Trait(_)
            | Expr::User(_)
            | Expr::Aggregate(..)
            | Expr::Segment(_)
            | Expr::Bucket(_) => Vec::new(),
            Expr::AggregateBy { terms, .. } => terms.iter().collect(),
            Expr::TimeCompare(compare) => vec![&compare.x],
            Expr::Compare(_, left, right) | Expr::NotDistinct(left, right) | Expr::Arithmetic(_, left, right) => {
                vec![left, right]
            }
            Expr::And(items) | Expr::Or(items) | Expr::Coalesce(items) | Expr::Call(_, items) | Expr::Steps(items) => {
                items.iter().collect()
            }
            Expr::Not(inner)
            | Expr::IsNull(inner)
            | Expr::IsTrue(inner)
            | Expr::Match(inner, _)
            | Expr::Negate(inner)
            | Expr::Cast(inner, _)
            | Expr::CastInt(inner, _)
            | Expr::JsonTest(inner, _) => vec![inner],
            Expr::InList(x, items) => std::iter::once(&**x).chain(items.iter()).collect(),
            Expr::Case { branches, otherwise } => {
                branches.iter().flat_map(|(when, then)| [when, then]).chain([&**otherwise]).collect()
            }
        }
    }

    /// Calls `visit` with this node and every node below it, parents first.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// Returns the same node with each operand changed by `f`.
    pub fn map_children(self, f: &mut impl FnMut(Expr) -> Expr) -> Expr {
        let boxed = |inner: Box<Expr>, f: &mut dyn FnMut(Expr) -> Expr| Box::new(f(*inner));
        match self {
            Expr::Literal(..)
            | Expr::Event(_)
            | Expr::Payload(_)
            | Expr::Trait(_)
            | Expr::User(_)
            | Expr::Aggregate(..)
            | Expr::Segment(_)
            | Expr::Bucket(_) => self,
            Expr::AggregateBy { terms, cases, ty } => {
                Expr::AggregateBy { terms: terms.into_iter().map(f).collect(), cases, ty }
            }
            Expr::TimeCompare(compare) => {
                let TimeCompare { x, op, bound } = *compare;
                Expr::TimeCompare(Box::new(TimeCompare { x: f(x), op, bound }))
            }
            Expr::Compare(op, left, right) => Expr::Compare(op, boxed(left, f), boxed(right, f)),
            Expr::NotDistinct(left, right) => Expr::NotDistinct(boxed(left, f), boxed(right, f)),
            Expr::Arithmetic(op, left, right) => Expr::Arithmetic(op, boxed(left, f), boxed(right, f)),
            Expr::And(items) => Expr::And(items.into_iter().map(f).collect()),
            Expr::Or(items) => Expr::Or(items.into_iter().map(f).collect()),
            Expr::Coalesce(items) => Expr::Coalesce(items.into_iter().map(f).collect()),
            Expr::Steps(items) => Expr::Steps(items.into_iter().map(f).collect()),
            Expr::Call(function, items) => Expr::Call(function, items.into_iter().map(f).collect()),
            Expr::Not(inner) => Expr::Not(boxed(inner, f)),
            Expr::IsNull(inner) => Expr::IsNull(boxed(inner, f)),
            Expr::IsTrue(inner) => Expr::IsTrue(boxed(inner, f)),
            Expr::Match(inner, pattern) => Expr::Match(boxed(inner, f), pattern),
            Expr::Negate(inner) => Expr::Negate(boxed(inner, f)),
            Expr::Cast(inner, ty) => Expr::Cast(boxed(inner, f), ty),
            Expr::CastInt(inner, bytes) => Expr::CastInt(boxed(inner, f), bytes),
            Expr::JsonTest(inner, test) => Expr::JsonTest(boxed(inner, f), test),
            Expr::InList(x, items) => {
                let x = boxed(x, f);
                Expr::InList(x, items.map(f))
            }
            Expr::Case { branches, otherwise } => {
                let branches = branches.into_iter().map(|(when, then)| (f(when), f(then))).collect();
                Expr::Case { branches, otherwise: boxed(otherwise, f) }
            }
        }
    }

    /// Whether `test` is true for this expression or any part of it.
    pub fn any(&self, test: &impl Fn(&Expr) -> bool) -> bool {
        test(self) || self.children().into_iter().any(|child| child.any(test))
    }

    /// Whether it reads the event.
    pub fn reads_event(&self) -> bool {
        self.any(&|e| matches!(e, Expr::Event(_) | Expr::Payload(_)))
    }

    /// Whether it reads the user: a trait, a column of the user, a membership or the bucket.
    pub fn reads_user(&self) -> bool {
        self.any(&|e| matches!(e, Expr::Trait(_) | Expr::User(_) | Expr::Segment(_) | Expr::Bucket(_)))
    }

    /// Whether it reads an aggregate.
    pub fn reads_aggregate(&self) -> bool {
        self.any(&|e| matches!(e, Expr::Aggregate(..) | Expr::AggregateBy { .. }))
    }

    /// Whether its value changes with time alone.
    pub fn reads_now(&self) -> bool {
        self.any(&|e| matches!(e, Expr::TimeCompare(_)))
    }
}

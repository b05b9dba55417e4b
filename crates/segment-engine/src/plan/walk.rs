//! Visiting every node of an expression.

use super::Expr;

impl Expr {
    /// Calls `visit` with this node and every node below it, parents first; [`Expr::TimeCompare`]'s left side included.
    pub fn walk<'a>(&'a self, visit: &mut impl FnMut(&'a Expr)) {
        visit(self);
        self.for_each_child(&mut |child| child.walk(visit));
    }

    fn for_each_child<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        match self {
            Expr::Literal(..)
            | Expr::Event(_)
            | Expr::Payload(_)
            | Expr::Trait(_)
            | Expr::User(_)
            | Expr::Aggregate(..)
            | Expr::Segment(_) => {}
            Expr::TimeCompare(compare) => visit(&compare.x),
            Expr::Compare(_, left, right) | Expr::NotDistinct(left, right) | Expr::Arithmetic(_, left, right) => {
                visit(left);
                visit(right);
            }
            Expr::And(items) | Expr::Or(items) | Expr::Coalesce(items) | Expr::Call(_, items) => {
                items.iter().for_each(visit);
            }
            Expr::AggregateBy { terms, .. } => terms.iter().for_each(visit),
            Expr::InList(item, list) => {
                visit(item);
                list.iter().for_each(visit);
            }
            Expr::Case { branches, otherwise } => {
                for (condition, value) in branches {
                    visit(condition);
                    visit(value);
                }
                visit(otherwise);
            }
            Expr::Not(inner)
            | Expr::IsNull(inner)
            | Expr::IsTrue(inner)
            | Expr::Match(inner, _)
            | Expr::Negate(inner)
            | Expr::Cast(inner, _)
            | Expr::CastInt(inner, _) => visit(inner),
        }
    }
}

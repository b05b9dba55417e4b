//! Comparisons, `IN`, `BETWEEN`, null tests, `CASE`.

use sqlparser::ast::{BinaryOperator, CaseWhen, Expr as Ast};

use super::operand::{Operand, now_misplaced};
use super::{CompareOp, CompileError, Expr, Pos, Resolver, Type, code, comparison, null, start_of};

impl Resolver {
    pub(super) fn comparison(
        &mut self,
        left: &Ast,
        op: CompareOp,
        right: &Ast,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        for side in [left, right] {
            // Postgres refuses the chain too, and `1 < x < 5` does not mean what it seems to.
            if let Ast::BinaryOp { op, right: middle, .. } = side
                && comparison(op).is_some()
            {
                let is_joined = matches!(&**middle, Ast::BinaryOp { op: BinaryOperator::StringConcat, .. });
                return Err(CompileError::new(code::SYNTAX, start_of(side, pos), "comparisons do not chain").suggest(
                    match is_joined {
                        true => "|| joins texts; between conditions write OR",
                        false => "Write a < b AND b < c, or put one of them into parentheses",
                    },
                ));
            }
        }
        let left = self.operand(left, pos)?;
        let right = self.operand(right, pos)?;
        self.compare(op, left, right)
    }

    fn operand(&mut self, tree: &Ast, outer: Pos) -> Result<(Operand, Pos), CompileError> {
        let pos = start_of(tree, outer);
        Ok((self.resolve(tree, pos)?, pos))
    }

    /// Resolves `left op right`, where one side may depend on now.
    pub(super) fn compare(
        &mut self,
        op: CompareOp,
        left: (Operand, Pos),
        right: (Operand, Pos),
    ) -> Result<Expr, CompileError> {
        match (left, right) {
            ((left, _), (right, pos)) if left.is_now() && right.is_now() => Err(now_misplaced(pos)),
            ((Operand::Now(bound), pos), x) => self.time_compare(x, op.flipped(), bound, pos),
            (x, (Operand::Now(bound), pos)) => self.time_compare(x, op, bound, pos),
            ((Operand::Age(age), pos), limit) => self.age_compare(*age, op, limit, pos),
            (limit, (Operand::Age(age), pos)) => self.age_compare(*age, op.flipped(), limit, pos),
            (left, right) => {
                let mut sides = self.unify(vec![left, right])?.into_iter();
                match (sides.next(), sides.next()) {
                    (Some(left), Some(right)) => Ok(Expr::Compare(op, Box::new(left), Box::new(right))),
                    _ => unreachable!("unify returns as many as it was given"),
                }
            }
        }
    }

    pub(super) fn between(&mut self, x: &Ast, low: &Ast, high: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        let x = self.operand(x, pos)?;
        let low = self.operand(low, pos)?;
        let high = self.operand(high, pos)?;
        let above = self.compare(CompareOp::GtEq, x.clone(), low)?;
        let below = self.compare(CompareOp::LtEq, x, high)?;
        Ok(Expr::And(vec![above, below]))
    }

    pub(super) fn in_list(&mut self, x: &Ast, list: &[Ast], pos: Pos) -> Result<Expr, CompileError> {
        let x = self.operand(x, pos)?;
        let items = list.iter().map(|item| self.operand(item, pos)).collect::<Result<Vec<_>, _>>()?;
        if x.0.is_now() || items.iter().any(|(item, _)| item.is_now()) {
            let equal = items.into_iter().map(|item| self.compare(CompareOp::Eq, x.clone(), item));
            let equal = equal.collect::<Result<Vec<_>, _>>()?;
            return Ok(Expr::Or(equal));
        }
        let mut unified = self.unify(std::iter::once(x).chain(items).collect())?;
        let x = unified.remove(0);
        Ok(Expr::InList(Box::new(x), unified.into()))
    }

    pub(super) fn not_distinct(&mut self, left: &Ast, right: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        let sides = vec![self.operand(left, pos)?, self.operand(right, pos)?];
        if let Some((_, pos)) = sides.iter().find(|(side, _)| side.is_now()) {
            return Err(now_misplaced(*pos));
        }
        let mut sides = self.unify(sides)?;
        let right = sides.pop().map(Box::new);
        let left = sides.pop().map(Box::new);
        match (left, right) {
            (Some(left), Some(right)) => Ok(Expr::NotDistinct(left, right)),
            _ => unreachable!("unify returns as many as it was given"),
        }
    }

    pub(super) fn is_null(&mut self, x: &Ast, pos: Pos) -> Result<Expr, CompileError> {
        Ok(Expr::IsNull(Box::new(self.value(x, pos)?)))
    }

    pub(super) fn case(
        &mut self,
        operand: Option<&Ast>,
        conditions: &[CaseWhen],
        otherwise: Option<&Ast>,
        pos: Pos,
    ) -> Result<Expr, CompileError> {
        let mut whens = Vec::with_capacity(conditions.len());
        let mut values = Vec::with_capacity(conditions.len() + 1);
        for CaseWhen { condition, result } in conditions {
            whens.push(match operand {
                Some(operand) => self.comparison(operand, CompareOp::Eq, condition, pos)?,
                None => self.condition(condition, pos)?,
            });
            values.push(self.operand(result, pos)?);
        }
        values.push(match otherwise {
            Some(otherwise) => self.operand(otherwise, pos)?,
            None => (Operand::Null, pos),
        });
        if let Some((_, pos)) = values.iter().find(|(value, _)| value.is_now()) {
            return Err(now_misplaced(*pos));
        }
        let mut values = self.unify(values)?;
        let otherwise = Box::new(values.pop().unwrap_or_else(|| null(Type::Text)));
        Ok(Expr::Case { branches: whens.into_iter().zip(values).collect(), otherwise })
    }
}

//! Makes a case smaller as long as the sources still disagree.

use sqlparser::ast::{
    BinaryOperator, Expr as Ast, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::answers::Disagreement;
use crate::history::{Case, What};

/// The most attempts, so that the search ends.
const ATTEMPTS_MAX: usize = 3_000;

/// Returns the smallest case found, and the disagreement on it.
pub(crate) fn minimised(
    case: &Case,
    disagreement: &Disagreement,
    still: &mut dyn FnMut(&Case) -> Option<Disagreement>,
) -> (Case, Disagreement) {
    let mut best = (case.clone(), disagreement.clone());
    let mut attempts = 0;
    loop {
        let mut progress = false;
        let mut candidates = smaller(&best.0).into_iter();
        while let Some(candidate) = candidates.next() {
            attempts += 1;
            if attempts > ATTEMPTS_MAX {
                return best;
            }
            if let Some(found) = still(&candidate) {
                best = (candidate, found);
                progress = true;
                candidates = smaller(&best.0).into_iter();
            }
        }
        if !progress {
            return best;
        }
    }
}

/// Returns cases that are a step smaller, the biggest steps first.
fn smaller(case: &Case) -> Vec<Case> {
    let mut found = Vec::new();
    if case.instants.len() > 1 {
        found.extend(case.instants.iter().map(|instant| Case { instants: vec![*instant], ..case.clone() }));
    }
    let mut length = case.steps.len() / 2;
    while length > 0 {
        for start in (0..case.steps.len()).step_by(length) {
            let mut fewer = case.clone();
            fewer.steps.drain(start..(start + length).min(case.steps.len()));
            found.push(fewer);
        }
        length /= 2;
    }
    for (number, step) in case.steps.iter().enumerate() {
        let mut put = |what: What| {
            let mut simpler = case.clone();
            simpler.steps[number].what = what;
            found.push(simpler);
        };
        match &step.what {
            What::Segment { tag, clause: Some(clause) } => {
                let simpler = simpler_clauses(clause);
                simpler.into_iter().for_each(|clause| put(What::Segment { tag: tag.clone(), clause: Some(clause) }));
            }
            What::Event { key, event_id, created_at, fields, payload } => {
                for part in [fields, payload] {
                    for name in part.as_object().into_iter().flatten().map(|(name, _)| name) {
                        let (mut fields, mut payload) = (fields.clone(), payload.clone());
                        let removed = if std::ptr::eq(part, fields_of(step)) { &mut fields } else { &mut payload };
                        removed.as_object_mut().map(|object| object.remove(name));
                        let (key, event_id) = (key.clone(), event_id.clone());
                        put(What::Event { key, event_id, created_at: *created_at, fields, payload });
                    }
                }
            }
            _ => {}
        }
    }
    found
}

fn fields_of(step: &crate::history::Step) -> &serde_json::Value {
    match &step.what {
        What::Event { fields, .. } => fields,
        _ => &serde_json::Value::Null,
    }
}

/// Returns the clause with one node replaced by one of its operands, or an aggregate without its
/// filter.
fn simpler_clauses(clause: &str) -> Vec<String> {
    let parsed = Parser::new(&PostgreSqlDialect {}).try_with_sql(clause).and_then(|mut parser| parser.parse_expr());
    let Ok(tree) = parsed else { return Vec::new() };
    let mut found: Vec<String> = simpler(&tree).iter().map(Ast::to_string).collect();
    found.sort_by_key(String::len);
    found.dedup();
    found.retain(|simpler| simpler.len() < clause.len());
    found
}

/// Returns all trees with one simplification.
fn simpler(tree: &Ast) -> Vec<Ast> {
    let inside = |child: &Ast, rebuild: &dyn Fn(Box<Ast>) -> Ast| -> Vec<Ast> {
        simpler(child).into_iter().map(|child| rebuild(Box::new(child))).collect()
    };
    match tree {
        Ast::Nested(inner) => inside(inner, &Ast::Nested),
        Ast::BinaryOp { left, op, right } => {
            let mut found = inside(left, &|left| Ast::BinaryOp { left, op: op.clone(), right: right.clone() });
            found.extend(inside(right, &|right| Ast::BinaryOp { left: left.clone(), op: op.clone(), right }));
            if matches!(op, BinaryOperator::And | BinaryOperator::Or) {
                found.extend([(**left).clone(), (**right).clone()]);
            }
            found
        }
        Ast::UnaryOp { op, expr } => {
            let mut found = inside(expr, &|expr| Ast::UnaryOp { op: *op, expr });
            found.push((**expr).clone());
            found
        }
        Ast::IsTrue(inner) | Ast::IsNotTrue(inner) | Ast::IsFalse(inner) | Ast::IsNotFalse(inner) => {
            vec![(**inner).clone()]
        }
        Ast::IsNull(inner) => inside(inner, &Ast::IsNull),
        Ast::Case { conditions, else_result, .. } => {
            let parts = conditions.iter().flat_map(|when| [&when.condition, &when.result]);
            parts.chain(else_result.as_deref()).cloned().collect()
        }
        Ast::Function(function) => simpler_calls(function),
        _ => Vec::new(),
    }
}

/// Returns the call without its filter, with a simpler filter, with a simpler argument, or without
/// one of several arguments.
fn simpler_calls(function: &Function) -> Vec<Ast> {
    let with_filter = |filter| Ast::Function(Function { filter, ..function.clone() });
    let mut found = Vec::new();
    if let Some(filter) = &function.filter {
        found.push(with_filter(None));
        found.extend(simpler(filter).into_iter().map(|filter| with_filter(Some(Box::new(filter)))));
    }
    let FunctionArguments::List(list) = &function.args else { return found };
    let with_arguments = |args| {
        let args = FunctionArguments::List(FunctionArgumentList { args, ..list.clone() });
        Ast::Function(Function { args, ..function.clone() })
    };
    for (place, argument) in list.args.iter().enumerate() {
        // A funnel begins with an interval, and must keep at least one step.
        if place > 0 && list.args.len() > 2 {
            let fewer = list.args.iter().enumerate().filter(|(other, _)| *other != place);
            found.push(with_arguments(fewer.map(|(_, argument)| argument.clone()).collect()));
        }
        if let FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)) = argument {
            found.extend(simpler(argument).into_iter().map(|argument| {
                let mut args = list.args.clone();
                args[place] = FunctionArg::Unnamed(FunctionArgExpr::Expr(argument));
                with_arguments(args)
            }));
        }
    }
    found
}

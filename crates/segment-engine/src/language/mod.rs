//! The one compiler: where clause to [`Plan`]. The same function refuses, runs, previews, explains and generates SQL.
//!
//! The language is a closed grammar: [`syntax`] bounds and parses the text, [`resolve`] turns the parse tree into typed
//! expressions and refuses what it does not know, [`canonical`] brings them to one form, [`split`] takes conditions on the
//! user out of the aggregates, [`print`] writes the result in one spelling.

mod canonical;
mod error;
mod fold;
mod form;
mod limits;
mod names;
mod print;
mod resolve;
mod scope;
mod split;
mod syntax;

pub use error::CompileError;
pub use print::{Names, aggregate as print_aggregate, expression as print_expression};

use crate::plan::Plan;
use error::Pos;

/// Compiles a where clause.
///
/// # Errors
/// What is not in the language is refused, with a stable code, the position, the reason, and what to write instead.
pub fn compile(where_statement: &str) -> Result<Plan, CompileError> {
    compiled(where_statement, resolve::Resolver::default())
}

/// As [`compile`], for a clause that was saved, perhaps by an earlier build: takes what that took and a new clause may no longer
/// say (zones by their abbreviation), with the same meaning as then. So a segment never stops because of an upgrade.
///
/// # Errors
/// As [`compile`].
pub fn compile_stored(where_statement: &str) -> Result<Plan, CompileError> {
    compiled(where_statement, resolve::Resolver::of_stored())
}

fn compiled(where_statement: &str, mut resolver: resolve::Resolver) -> Result<Plan, CompileError> {
    let Some(tree) = syntax::parse(where_statement)? else {
        // An empty clause selects every known user.
        let formula = canonical::bool_literal(true);
        return Ok(Plan { formula, aggregates: Vec::new(), segments: Vec::new(), normal_form: "TRUE".to_owned() });
    };
    let condition = resolver.condition(&tree, Pos::START)?;
    let quotable = (where_statement.len() <= limits::QUOTED_LENGTH_MAX).then_some(&tree);
    let formula = form::formula(condition, quotable, &mut resolver)?;
    let names = resolver.names();
    let normal_form = print::expression(&formula, &names);
    let (formula, aggregates, segments) = split::split(formula, &names, &resolver.aggregate_positions)?;
    Ok(Plan { formula, aggregates, segments, normal_form })
}

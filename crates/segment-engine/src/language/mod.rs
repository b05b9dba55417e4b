//! The one compiler, from where clause to [`Plan`]. Refusing, running, previewing, explaining and
//! SQL all start here.
//!
//! The language is a closed grammar: [`syntax`] checks bounds and parses the text, [`resolve`]
//! turns the parse tree into typed expressions and refuses everything that it does not know,
//! [`canonical`] brings them to one form, [`split`] takes conditions on the user out of the
//! aggregates, and [`print`] writes the result in one spelling.

mod canonical;
mod error;
mod fold;
mod form;
mod limits;
mod lists;
mod look_alikes;
mod names;
mod print;
mod quote;
mod resolve;
mod scope;
mod split;
mod syntax;

pub(crate) use error::code;
pub use error::{CODES, CompileError};
pub use print::{Names, aggregate as print_aggregate, expression as print_expression};

use crate::plan::Plan;
use error::Pos;

/// Compiles a where clause.
///
/// # Errors
/// Everything that is not in the language is refused with a stable code, the position, the reason,
/// and what to write instead.
pub fn compile(where_statement: &str) -> Result<Plan, CompileError> {
    compiled(where_statement, false)
}

/// Compiles a where clause that was accepted when it was saved, perhaps by an earlier build. Checks
/// that were added since do not apply (a text as a condition, a zone by its abbreviation, the
/// memory of all patterns together), and the clause means what it meant then: a segment does not
/// stop because of an upgrade.
///
/// # Errors
/// Like [`compile`].
pub fn compile_saved(where_statement: &str) -> Result<Plan, CompileError> {
    compiled(where_statement, true)
}

fn compiled(where_statement: &str, saved: bool) -> Result<Plan, CompileError> {
    let Some(tree) = syntax::parse(where_statement)? else {
        // An empty clause selects every known user.
        let formula = canonical::bool_literal(true);
        return Ok(Plan { formula, aggregates: Vec::new(), segments: Vec::new(), normal_form: "TRUE".to_owned() });
    };
    let mut resolver = resolve::Resolver::new(saved);
    let condition = resolver.condition(&tree, Pos::START)?;
    let quotable = (where_statement.len() <= limits::QUOTED_LENGTH_MAX).then_some(&tree);
    let formula = form::formula(condition, quotable, &mut resolver)?;
    let names = resolver.names();
    let normal_form = print::expression(&formula, &names);
    let (formula, aggregates, segments) = split::split(formula, &names, &resolver.aggregate_positions)?;
    Ok(Plan { formula, aggregates, segments, normal_form })
}

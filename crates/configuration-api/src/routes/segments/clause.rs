//! Checks where clauses with the engine's own compiler before they are stored.

use ports::ErrorCode;
use segment_engine::language::{CompileError, compile};
use segment_engine::machine;
use segment_engine::plan::Plan;
use serde_json::json;
use uss_http::Problem;

/// Compiles a clause that is to be saved; an error becomes a 400 with position and suggestion.
pub(crate) fn checked(where_statement: &str) -> Result<Plan, Problem> {
    let plan = compile(where_statement).map_err(problem)?;
    machine::check_thresholds(&plan).map_err(problem)?;
    Ok(plan)
}

/// Compiles a clause that is already saved. `None`: an earlier build saved it and accepted more.
pub(crate) fn saved(where_statement: &str) -> Option<Plan> {
    compile(where_statement).ok()
}

/// Returns the class of how much the engine keeps per user for the plan.
pub(crate) fn cost(plan: &Plan) -> String {
    machine::cost(plan).to_string()
}

fn problem(error: CompileError) -> Problem {
    let code = ErrorCode::from(&error);
    let CompileError { message, suggestion, line, column, .. } = error;
    let problem = Problem::invalid(code, message).with("position", json!({"line": line, "column": column}));
    match suggestion {
        Some(suggestion) => problem.with("suggestion", suggestion),
        None => problem,
    }
}

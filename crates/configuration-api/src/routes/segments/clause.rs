//! Where clauses as they come in: compiled by the engine's own compiler before they are stored.

use ports::ErrorCode;
use segment_engine::language::{CompileError, compile};
use segment_engine::machine;
use segment_engine::plan::Plan;
use serde_json::json;
use uss_http::Problem;

/// Compiles a clause that is to be saved; a refusal is a 400 with position and suggestion.
pub(crate) fn checked(where_statement: &str) -> Result<Plan, Problem> {
    let plan = compile(where_statement).map_err(refusal)?;
    machine::check_thresholds(&plan).map_err(refusal)?;
    Ok(plan)
}

/// The plan of a clause that is saved already, maybe by a build that accepted more.
pub(crate) fn saved(where_statement: &str) -> Option<Plan> {
    compile(where_statement).ok()
}

/// The class of what the engine keeps per user for it.
pub(crate) fn cost(plan: &Plan) -> String {
    machine::cost(plan).to_string()
}

fn refusal(error: CompileError) -> Problem {
    let code = ErrorCode::from(&error);
    let CompileError { message, suggestion, line, column, .. } = error;
    let mut problem = Problem::invalid(code, message).with("position", json!({"line": line, "column": column}));
    if let Some(suggestion) = suggestion {
        problem = problem.with("suggestion", suggestion);
    }
    problem
}

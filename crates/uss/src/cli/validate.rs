//! `uss validate`: prints what a where clause means, or why it is refused.

use std::process::ExitCode;

use segment_engine::language::{CompileError, compile};
use segment_engine::machine::{check_thresholds, cost};

use super::{fail, say};

/// Compiles a where clause and prints its normal form and its cost, or the place and reason of its
/// refusal.
#[derive(Debug, clap::Args)]
pub(crate) struct Validate {
    /// The where clause, as in a segment's `whereStatement`.
    #[arg(value_name = "WHERE", allow_hyphen_values = true)]
    where_statement: String,
}

impl Validate {
    pub(super) fn run(self) -> ExitCode {
        let accepted = |plan| check_thresholds(&plan).map(|()| plan);
        match compile(&self.where_statement).and_then(accepted) {
            Ok(plan) => {
                say(&plan.normal_form);
                let cost = cost(&plan);
                say(format_args!("cost: {cost}, {}", cost.meaning()));
                ExitCode::SUCCESS
            }
            Err(error) => fail(refusal(&self.where_statement, &error)),
        }
    }
}

/// Returns the line of the clause with a caret under the place, the reason, and what to write
/// instead.
pub(crate) fn refusal(where_statement: &str, error: &CompileError) -> String {
    let index = usize::try_from(error.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let line = where_statement.lines().nth(index).unwrap_or_default();
    let before = line.chars().take(usize::try_from(error.column.saturating_sub(1)).unwrap_or(usize::MAX));
    // Tabs stay tabs, so that the caret is below its character in terminals of any tab width.
    let indent: String = before.map(|character| if character == '\t' { '\t' } else { ' ' }).collect();
    let mut text = format!("{line}\n{indent}^\n{}: {}", error.code, error.message);
    if let Some(suggestion) = &error.suggestion {
        text.push_str("\n  ");
        text.push_str(suggestion);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_below_the_place() {
        let clause = "count(*) > 1\n\tAND nowhere = 1";
        let text = refusal(clause, &compile(clause).unwrap_err());
        let lines: Vec<&str> = text.lines().take(2).collect();
        assert_eq!(lines, ["\tAND nowhere = 1", "\t    ^"]);
    }
}

//! What came of an import.

use std::fmt;
use std::path::Path;

use ports::event_sink::Refused;

/// How many refused rows are told one by one.
const EXAMPLES_MAX: usize = 20;

/// What came of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events that the log has. Those of an earlier import are among them; they count once.
    pub accepted: u64,
    /// Rows that were refused.
    pub rejected: u64,
    /// The first refused rows, and why.
    examples: Vec<String>,
}

impl Summary {
    /// Adds a refused row.
    pub(super) fn reject(&mut self, file: &Path, line: u64, refused: &Refused) {
        self.rejected += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(format!("{}, line {line}: {} ({})", file.display(), refused.message, refused.code));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events accepted (those of an earlier import count once), {} rejected",
            self.accepted, self.rejected
        )?;
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        let more = self.rejected - self.examples.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        if self.rejected > 0 {
            write!(
                f,
                "\nThe rejected events stand on the error topic: `uss errors list` shows them, and `uss errors replay` sends them \
                 again, mended if need be."
            )?;
        }
        Ok(())
    }
}

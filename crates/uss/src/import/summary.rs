//! The summary at the end of an import.

use std::fmt;

use super::rejected::Report;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Accepted events, including those that an earlier import sent already. They count once.
    pub(crate) accepted: u64,
    pub(crate) rejected: Report,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { rows, by_api, examples, path } = &self.rejected;
        write!(f, "{} events accepted (those of an earlier import count once), {rows} rejected", self.accepted)?;
        for example in examples {
            write!(f, "\n  {example}")?;
        }
        let more = rows - examples.len() as u64;
        if more > 0 {
            write!(f, "\n  and {more} more")?;
        }
        if *rows > 0 {
            write!(f, "\nThe rejected rows are in {}, each with its line and the reason.", path.display())?;
        }
        if *by_api > 0 {
            let which = if by_api == rows { "They" } else { "Those that the API rejected" };
            write!(
                f,
                "\n{which} are dead letters on the error topic, too: `uss errors list` shows them, and `uss errors replay` sends \
                 them again, edited if need be."
            )?;
        }
        Ok(())
    }
}

//! The sources that say who is in which segment, and the comparison of two sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use segment_engine::ids::UserId;

use crate::clauses::Dialect;
use crate::history::{Case, World};

/// The members of one segment at one instant, by one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Members(BTreeSet<UserId>),
    /// The source does not know, for this reason.
    Skipped(String),
}

/// Verdicts by the number of the instant and the tag.
pub(crate) type Answer = BTreeMap<(usize, String), Verdict>;

/// A source that shares as little code as possible with the others.
pub(crate) trait Answers {
    fn name(&self) -> &'static str;

    /// Returns whether the source reads clauses of this dialect.
    fn reads(&self, _: Dialect) -> bool {
        true
    }

    /// Returns the verdicts on every segment in force at every instant of the case. `worlds` is the
    /// reference reading of the case's records at these instants, for sources that do not read
    /// records themselves.
    ///
    /// # Errors
    /// Why the source failed. This counts as a disagreement.
    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String>;
}

/// A segment and an instant on which two sources disagree.
#[derive(Clone, Debug)]
pub(crate) struct Disagreement {
    pub instant: usize,
    pub tag: String,
    /// The names of the sources, and their verdicts.
    pub verdicts: [(&'static str, String); 2],
}

/// The result of comparing two sources.
#[derive(Default)]
pub(crate) struct Comparison {
    /// Users, summed over all segments and instants on which both have a verdict.
    pub compared: usize,
    /// How many of these users are members.
    pub members: usize,
    /// Why verdicts were skipped, and how often.
    pub skipped: BTreeMap<String, usize>,
}

/// Compares the verdicts of two sources on one case.
///
/// # Errors
/// The first segment and instant on which they disagree.
pub(crate) fn compare(
    worlds: &[World],
    left: (&'static str, &Answer),
    right: (&'static str, &Answer),
) -> Result<Comparison, Disagreement> {
    let mut comparison = Comparison::default();
    let keys: BTreeSet<&(usize, String)> = left.1.keys().chain(right.1.keys()).collect();
    for key in keys {
        match (left.1.get(key), right.1.get(key)) {
            (Some(Verdict::Members(l)), Some(Verdict::Members(r))) if l == r => {
                comparison.compared += worlds[key.0].users.len();
                comparison.members += l.len();
            }
            (Some(Verdict::Skipped(why)), _) | (_, Some(Verdict::Skipped(why))) => {
                *comparison.skipped.entry(why.clone()).or_default() += 1;
            }
            (l, r) => {
                let verdicts = [(left.0, shown(l)), (right.0, shown(r))];
                return Err(Disagreement { instant: key.0, tag: key.1.clone(), verdicts });
            }
        }
    }
    Ok(comparison)
}

fn shown(verdict: Option<&Verdict>) -> String {
    match verdict {
        Some(Verdict::Members(members)) => format!("{:?}", members.iter().map(|id| id.0).collect::<Vec<_>>()),
        Some(Verdict::Skipped(why)) => why.clone(),
        None => "nothing".to_owned(),
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(left, l), (right, r)] = &self.verdicts;
        write!(f, "members of {} at instant {}: {left} says {l}, {right} says {r}", self.tag, self.instant)
    }
}

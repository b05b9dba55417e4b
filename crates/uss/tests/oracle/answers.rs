//! Who answers, and where two answers differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use segment_engine::event::UserId;

use crate::clauses::Dialect;
use crate::history::{Case, World};

/// What one source says of one segment at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Members(BTreeSet<UserId>),
    /// It does not answer this one, and says why.
    Skipped(String),
}

/// By the number of the instant and the tag.
pub type Answer = BTreeMap<(usize, String), Verdict>;

/// A source of answers that shares as little as possible with the others.
pub trait Answers {
    fn name(&self) -> &'static str;

    /// Whether it can be asked about clauses of this dialect.
    fn reads(&self, _: Dialect) -> bool {
        true
    }

    /// Every segment in force at every instant of the case. `worlds` is the reference reading of the case's records at
    /// these instants, for sources that do not read records themselves.
    ///
    /// # Errors
    /// What kept it from answering at all: as wrong as a wrong answer.
    fn answer(&mut self, case: &Case, worlds: &[World]) -> Result<Answer, String>;
}

/// A segment and an instant on which two sources do not agree.
#[derive(Clone, Debug)]
pub struct Disagreement {
    pub instant: usize,
    pub tag: String,
    /// Each source by name, and what it says.
    pub said: [(&'static str, String); 2],
}

/// What came of comparing two answers.
#[derive(Default)]
pub struct Comparison {
    /// Users asked about, over all segments and instants that both answered.
    pub compared: usize,
    /// How many of them are members.
    pub members: usize,
    /// Why segments at instants were skipped, and how often.
    pub skipped: BTreeMap<String, usize>,
}

/// Compares two sources' answers to one case.
///
/// # Errors
/// The first question to which they differ.
pub fn compare(
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
                let said = [(left.0, said(l)), (right.0, said(r))];
                return Err(Disagreement { instant: key.0, tag: key.1.clone(), said });
            }
        }
    }
    Ok(comparison)
}

fn said(verdict: Option<&Verdict>) -> String {
    match verdict {
        Some(Verdict::Members(members)) => format!("{:?}", members.iter().map(|id| id.0).collect::<Vec<_>>()),
        Some(Verdict::Skipped(why)) => why.clone(),
        None => "nothing".to_owned(),
    }
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [(left, l), (right, r)] = &self.said;
        write!(f, "members of {} at instant {}: {left} says {l}, {right} says {r}", self.tag, self.instant)
    }
}

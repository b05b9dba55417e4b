//! Case after case, until enough has been compared; the first disagreement is made small and told.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::answers::{Answers, Disagreement, compare};
use crate::clauses::Dialect;
use crate::generate;
use crate::history::Case;
use crate::minimise::minimised;
use crate::replay;

/// What was compared.
#[derive(Debug, Default)]
pub struct Report {
    /// (user, segment, instant)s on which the first source and another agreed, by the other's name.
    pub compared: BTreeMap<&'static str, usize>,
    /// How many of them are memberships.
    pub members: BTreeMap<&'static str, usize>,
    pub skipped: BTreeMap<&'static str, usize>,
    pub reasons: BTreeMap<String, usize>,
    pub cases: u64,
}

/// Compares the first of the sources with each of the others, on the cases of the seeds from `seed` on, until each has
/// been compared `wanted` times.
///
/// # Errors
/// The first disagreement, as a text for people: the seed, who said what, and a small case as NDJSON.
pub fn run(seed: u64, dialect: Dialect, wanted: usize, sources: &mut [Box<dyn Answers>]) -> Result<Report, String> {
    let mut report = Report::default();
    while sources[1..].iter().any(|source| report.compared.get(source.name()).copied().unwrap_or_default() < wanted) {
        let case = generate::case(seed + report.cases, dialect);
        if let Some(disagreement) = check(&case, sources, &mut report) {
            return Err(told(&case, &disagreement, sources));
        }
        report.cases += 1;
    }
    Ok(report)
}

/// The first disagreement of a case.
pub fn check(case: &Case, sources: &mut [Box<dyn Answers>], report: &mut Report) -> Option<Disagreement> {
    let worlds = case.worlds();
    let failed = |name, why| Disagreement {
        instant: 0,
        tag: "any segment".to_owned(),
        said: [(name, why), ("nobody else", String::new())],
    };
    let (first, others) = sources.split_first_mut()?;
    let reference = match first.answer(case, &worlds) {
        Ok(answer) => answer,
        Err(why) => return Some(failed(first.name(), why)),
    };
    for source in others {
        let answer = match source.answer(case, &worlds) {
            Ok(answer) => answer,
            Err(why) => return Some(failed(source.name(), why)),
        };
        let comparison = compare(&worlds, (first.name(), &reference), (source.name(), &answer));
        if comparison.disagreement.is_some() {
            return comparison.disagreement;
        }
        *report.compared.entry(source.name()).or_default() += comparison.compared;
        *report.members.entry(source.name()).or_default() += comparison.members;
        *report.skipped.entry(source.name()).or_default() += comparison.skipped.values().sum::<usize>();
        for (why, times) in comparison.skipped {
            *report.reasons.entry(why).or_default() += times;
        }
    }
    None
}

fn told(case: &Case, disagreement: &Disagreement, sources: &mut [Box<dyn Answers>]) -> String {
    let names = disagreement.said.clone().map(|(name, _)| name);
    let still = |case: &Case, sources: &mut [Box<dyn Answers>]| {
        check(case, sources, &mut Report::default()).filter(|found| found.said.clone().map(|(name, _)| name) == names)
    };
    let (small, found) = minimised(case, disagreement, &mut |case| still(case, sources));
    let mut text = format!("seed {}: {found}\n", case.seed);
    let worlds = small.worlds();
    for (id, user) in worlds.last().map(|world| &world.users).into_iter().flatten() {
        let _ = writeln!(text, "user {id} is {}", user.key);
    }
    text + "the case, for `uss replay`:\n" + &replay::ndjson(&small)
}

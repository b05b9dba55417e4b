//! Compares the sources on case after case until enough has been compared. Makes the case of the
//! first disagreement small, and reports it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::answers::{Answer, Answers, Comparison, Disagreement, compare};
use crate::generate;
use crate::history::Case;
use crate::kinds::{self, Kind};
use crate::minimise::minimised;
use crate::replay;

/// The names of two sources, in the order of the list of sources.
pub(crate) type Pair = (&'static str, &'static str);

/// What was compared, over all cases.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub cases: u64,
    /// The number of (user, segment, instant)s.
    pub asked: usize,
    /// How many of them each pair of sources agreed on.
    pub compared: BTreeMap<Pair, usize>,
    /// How many of those are memberships.
    pub members: BTreeMap<Pair, usize>,
    /// Why verdicts were skipped, and how often.
    pub reasons: BTreeMap<String, usize>,
    /// How many (user, segment, instant)s have each kind of record in their history.
    pub kinds: BTreeMap<Kind, usize>,
}

/// The comparisons of one case, by pair.
type Comparisons = Vec<(Pair, Comparison)>;

struct State {
    report: Report,
    next_seed: u64,
    disagreement: Option<String>,
}

/// Compares all pairs of sources on the cases of the seeds from `seed` on, until `wanted` (user,
/// segment, instant)s are compared. Each worker takes the next seed, and has sources of its own.
///
/// # Errors
/// The first disagreement, for people: the seed, the verdicts, and a small case as NDJSON.
pub(crate) fn run(seed: u64, wanted: usize, workers: Vec<Vec<Box<dyn Answers + Send + '_>>>) -> Result<Report, String> {
    let state = Mutex::new(State { report: Report::default(), next_seed: seed, disagreement: None });
    std::thread::scope(|scope| {
        for sources in workers {
            scope.spawn(|| work(&state, wanted, sources));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.disagreement.map_or(Ok(state.report), Err)
}

fn work(state: &Mutex<State>, wanted: usize, mut sources: Vec<Box<dyn Answers + Send + '_>>) {
    while let Some(seed) = next_seed(state, wanted) {
        let case = generate::case(seed);
        match check(&case, &mut sources) {
            Ok(comparisons) => locked(state).report.add(&case, comparisons),
            Err(disagreement) => {
                let text = report(&case, &disagreement, &mut sources);
                locked(state).disagreement.get_or_insert(text);
            }
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panics while it holds the lock")
}

/// Returns `None` when enough has been compared, or two sources disagreed.
fn next_seed(state: &Mutex<State>, wanted: usize) -> Option<u64> {
    let mut state = locked(state);
    if state.report.asked >= wanted || state.disagreement.is_some() {
        return None;
    }
    state.next_seed += 1;
    Some(state.next_seed - 1)
}

/// Compares all pairs of sources that read the case. Returns the first disagreement as an error.
fn check(case: &Case, sources: &mut [Box<dyn Answers + Send + '_>]) -> Result<Comparisons, Disagreement> {
    let worlds = case.worlds();
    let mut answers: Vec<(&'static str, Answer)> = Vec::new();
    for source in sources.iter_mut().filter(|source| source.reads(case.dialect)) {
        let answer = source.answer(case, &worlds).map_err(|why| Disagreement {
            instant: 0,
            tag: "any segment".to_owned(),
            verdicts: [(source.name(), why), ("no other source", String::new())],
        })?;
        answers.push((source.name(), answer));
    }
    let mut comparisons = Vec::new();
    for (place, (left, l)) in answers.iter().enumerate() {
        for (right, r) in &answers[place + 1..] {
            comparisons.push(((*left, *right), compare(&worlds, (left, l), (right, r))?));
        }
    }
    Ok(comparisons)
}

impl Report {
    fn add(&mut self, case: &Case, comparisons: Comparisons) {
        self.cases += 1;
        self.asked += kinds::count(case, &mut self.kinds);
        for (pair, comparison) in comparisons {
            *self.compared.entry(pair).or_default() += comparison.compared;
            *self.members.entry(pair).or_default() += comparison.members;
            for (why, times) in comparison.skipped {
                *self.reasons.entry(why).or_default() += times;
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "making a case smaller takes minutes, so show the disagreement before")]
fn report(case: &Case, disagreement: &Disagreement, sources: &mut [Box<dyn Answers + Send + '_>]) -> String {
    eprintln!("seed {}: {disagreement}\nmaking the case smaller…", case.seed);
    let names = disagreement.verdicts.clone().map(|(name, _)| name);
    let mut still =
        |case: &Case| check(case, sources).err().filter(|found| found.verdicts.clone().map(|(name, _)| name) == names);
    let (small, found) = minimised(case, disagreement, &mut still);
    let mut text = format!("seed {}: {found}\n", case.seed);
    let worlds = small.worlds();
    for (id, user) in worlds.last().map(|world| &world.users).into_iter().flatten() {
        let _ = writeln!(text, "user {id} is {}", user.key);
    }
    text + "the case, for `uss replay`:\n" + &replay::ndjson(&small)
}

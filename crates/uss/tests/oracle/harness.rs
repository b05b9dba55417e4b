//! Case after case, until enough has been compared; the first disagreement is made small and told.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::answers::{Answer, Answers, Comparison, Disagreement, compare};
use crate::generate;
use crate::history::Case;
use crate::kinds::{self, Kind};
use crate::minimise::minimised;
use crate::replay;

/// Two sources by name, as they stand in the list of sources.
pub type Pair = (&'static str, &'static str);

/// What was compared, all cases together.
#[derive(Debug, Default)]
pub struct Report {
    pub cases: u64,
    /// (user, segment, instant)s that all sources of their case were asked about.
    pub asked: usize,
    /// How many of them two sources agreed on, one beside the other.
    pub compared: BTreeMap<Pair, usize>,
    /// How many of those are memberships.
    pub members: BTreeMap<Pair, usize>,
    /// Why segments at instants were not answered, and how often.
    pub reasons: BTreeMap<String, usize>,
    /// How many of those asked about had this in their history.
    pub kinds: BTreeMap<Kind, usize>,
}

/// What came of one case: its comparisons by pair.
type Comparisons = Vec<(Pair, Comparison)>;

struct State {
    report: Report,
    next_seed: u64,
    told: Option<String>,
}

/// Compares the sources, each with each, on the cases of the seeds from `seed` on, until they have been asked about
/// `wanted` (user, segment, instant)s. Each worker takes the next seed and asks sources of its own.
///
/// # Errors
/// The first disagreement, as a text for people: the seed, who said what, and a small case as NDJSON.
pub fn run(seed: u64, wanted: usize, workers: Vec<Vec<Box<dyn Answers + Send + '_>>>) -> Result<Report, String> {
    let state = Mutex::new(State { report: Report::default(), next_seed: seed, told: None });
    std::thread::scope(|scope| {
        for sources in workers {
            scope.spawn(|| work(&state, wanted, sources));
        }
    });
    let state = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    state.told.map_or(Ok(state.report), Err)
}

fn work(state: &Mutex<State>, wanted: usize, mut sources: Vec<Box<dyn Answers + Send + '_>>) {
    while let Some(seed) = next_seed(state, wanted) {
        let case = generate::case(seed);
        match check(&case, &mut sources) {
            Ok(comparisons) => locked(state).report.add(&case, comparisons),
            Err(disagreement) => {
                let text = told(&case, &disagreement, &mut sources);
                locked(state).told.get_or_insert(text);
            }
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with the report in hand")
}

/// None when enough has been asked, or somebody disagreed.
fn next_seed(state: &Mutex<State>, wanted: usize) -> Option<u64> {
    let mut state = locked(state);
    if state.report.asked >= wanted || state.told.is_some() {
        return None;
    }
    state.next_seed += 1;
    Some(state.next_seed - 1)
}

/// The comparisons of all pairs of sources that read the case, or the first disagreement.
fn check(case: &Case, sources: &mut [Box<dyn Answers + Send + '_>]) -> Result<Comparisons, Disagreement> {
    let worlds = case.worlds();
    let mut answers: Vec<(&'static str, Answer)> = Vec::new();
    for source in sources.iter_mut().filter(|source| source.reads(case.dialect)) {
        let answer = source.answer(case, &worlds).map_err(|why| Disagreement {
            instant: 0,
            tag: "any segment".to_owned(),
            said: [(source.name(), why), ("nobody else", String::new())],
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

#[allow(clippy::print_stderr, reason = "making a case smaller takes minutes, and whoever waits may give up")]
fn told(case: &Case, disagreement: &Disagreement, sources: &mut [Box<dyn Answers + Send + '_>]) -> String {
    eprintln!("seed {}: {disagreement}\nmaking the case smaller…", case.seed);
    let names = disagreement.said.clone().map(|(name, _)| name);
    let mut still =
        |case: &Case| check(case, sources).err().filter(|found| found.said.clone().map(|(name, _)| name) == names);
    let (small, found) = minimised(case, disagreement, &mut still);
    let mut text = format!("seed {}: {found}\n", case.seed);
    let worlds = small.worlds();
    for (id, user) in worlds.last().map(|world| &world.users).into_iter().flatten() {
        let _ = writeln!(text, "user {id} is {}", user.key);
    }
    text + "the case, for `uss replay`:\n" + &replay::ndjson(&small)
}

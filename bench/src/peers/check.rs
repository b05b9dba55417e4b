//! A peer's answer and times, and the comparison with what USS answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::workload::Expected;
use crate::Result;

/// How a method works.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// It processes every event.
    Stream,
    /// It computes all memberships of one instant.
    Recompute,
    /// It answers for one user after an event. It did so for some of the events.
    EachEvent,
}

/// What a script writes: one for each method.
#[derive(Deserialize)]
pub(crate) struct Answer {
    pub method: String,
    pub kind: Kind,
    /// Of each run.
    pub seconds: Vec<f64>,
    /// Of the processor, for the same runs.
    pub processor_seconds: Vec<f64>,
    /// Events per run.
    pub events: usize,
    /// Version and configuration in a few words.
    pub note: String,
    members: Option<BTreeMap<i64, Vec<i64>>>,
    transitions: Option<usize>,
    after_events: Option<BTreeMap<usize, Vec<i64>>>,
}

impl Answer {
    /// Fails if the answer is not that of USS, or if there is none.
    pub(crate) fn check(&self, expected: &Expected) -> Result<()> {
        let wrong = |what: String| Err(format!("{}: another answer than that of USS: {what}", self.method).into());
        if self.seconds.is_empty() || self.members.is_none() && self.after_events.is_none() {
            return wrong("none".to_owned());
        }
        if let Some(members) = &self.members
            && let Some(difference) = first_difference(members, &expected.members)
        {
            return wrong(difference);
        }
        if let Some(transitions) = self.transitions
            && transitions != expected.transitions
        {
            return wrong(format!("{transitions} transitions, not {}", expected.transitions));
        }
        for (number, segments) in self.after_events.iter().flatten() {
            if expected.after_events.get(number) != Some(segments) {
                let ours = expected.after_events.get(number);
                return wrong(format!("after event {number} {segments:?}, not {ours:?}"));
            }
        }
        Ok(())
    }
}

/// Describes the first segment whose members differ. A segment without members may be left out.
fn first_difference(theirs: &BTreeMap<i64, Vec<i64>>, ours: &BTreeMap<i64, Vec<i64>>) -> Option<String> {
    let set = |of: &BTreeMap<i64, Vec<i64>>, id: i64| -> BTreeSet<i64> {
        of.get(&id).into_iter().flatten().copied().collect()
    };
    let ids: BTreeSet<i64> = theirs.keys().chain(ours.keys()).copied().collect();
    ids.into_iter().find_map(|id| {
        let (theirs, ours) = (set(theirs, id), set(ours, id));
        let missing: Vec<_> = ours.difference(&theirs).take(3).collect();
        let extra: Vec<_> = theirs.difference(&ours).take(3).collect();
        (theirs != ours).then(|| {
            let counts = format!("{} members, not {}", theirs.len(), ours.len());
            format!("segment {id}: {counts}; missing for example {missing:?}, extra {extra:?}")
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn expected() -> Expected {
        Expected {
            members: BTreeMap::from([(1, vec![4, 7]), (2, vec![])]),
            transitions: 5,
            after_events: BTreeMap::from([(9, vec![1])]),
        }
    }

    fn check(answer: Value) -> std::result::Result<(), String> {
        let mut whole = json!({"method": "m", "kind": "stream", "seconds": [1.5], "processor_seconds": [1.0], "events": 10, "note": ""});
        whole.as_object_mut().unwrap().append(&mut answer.as_object().unwrap().clone());
        let answer: Answer = serde_json::from_value(whole).unwrap();
        answer.check(&expected()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_answer_of_uss_passes() {
        assert_eq!(check(json!({"members": {"1": [7, 4]}, "transitions": 5})), Ok(()));
        assert_eq!(check(json!({"after_events": {"9": [1]}})), Ok(()));
    }

    #[test]
    fn any_other_answer_fails() {
        let others = [
            (json!({"members": {"1": [4]}}), "segment 1: 1 members, not 2; missing for example [7], extra []"),
            (
                json!({"members": {"1": [4, 7], "3": [8]}}),
                "segment 3: 1 members, not 0; missing for example [], extra [8]",
            ),
            (json!({"members": {"1": [4, 7]}, "transitions": 4}), "4 transitions, not 5"),
            (json!({"after_events": {"9": []}}), "after event 9 [], not Some([1])"),
            (json!({"after_events": {"8": [1]}}), "after event 8 [1], not None"),
            (json!({}), "none"),
            (json!({"members": {"1": [4, 7]}, "seconds": []}), "none"),
        ];
        for (answer, what) in others {
            assert_eq!(check(answer), Err(format!("m: another answer than that of USS: {what}")));
        }
    }
}

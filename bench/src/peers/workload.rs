//! The workload of a comparison as files: events, segments, and the answer that USS gives.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use segment_engine::ids::SegmentId;
use segment_engine::language::compile;
use segment_engine::sql::{MACROS, members_query};
use segment_engine::time::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::Result;
use crate::alone::{machine_with, take_transitions};
use crate::workload::{Events, Mix, Rolling, rolling};

const DAY: i64 = 86_400_000_000;
/// Events per user.
const EVENTS_EACH: usize = 10;
/// The last events, after each of which the memberships of its user are noted.
const NOTED: usize = 50;

/// Events and segments of a comparison.
pub(crate) struct Workload {
    pub events: usize,
    pub segments: Vec<Rolling>,
}

/// What USS answers.
#[derive(Serialize)]
pub(crate) struct Expected {
    /// The members of each segment a day after the last event, in order.
    pub members: BTreeMap<i64, Vec<i64>>,
    /// Transitions until then.
    pub transitions: usize,
    /// For the last events, by number: the segments of the event's user right after it, in order.
    pub after_events: BTreeMap<usize, Vec<i64>>,
}

impl Workload {
    /// Has so many events and segments.
    pub(crate) fn new(events: usize, segments: usize) -> Self {
        Self { events, segments: rolling(segments) }
    }

    /// Returns a name for its folder.
    pub(crate) fn name(&self) -> String {
        format!("{}-events-{}-segments", self.events, self.segments.len())
    }

    /// Returns the where clauses.
    pub(crate) fn clauses(&self) -> Vec<String> {
        self.segments.iter().map(|segment| segment.clause()).collect()
    }

    /// Returns the events, in order.
    pub(crate) fn events(&self) -> Events {
        Events::new(self.events, (self.events / EVENTS_EACH) as u64, Mix::IN_ORDER)
    }

    /// Returns the instant at which memberships are compared: a day after the last event, so that
    /// time has changed some.
    pub(crate) fn until(&self) -> Timestamp {
        let last = self.events().last().map_or(0, |event| event.processed_at.0);
        Timestamp(last + DAY)
    }

    /// Writes `events.ndjson`, `segments.json`, `macros.sql` and `answer.json`, and returns the
    /// answer.
    pub(crate) fn write(&self, folder: &Path) -> Result<Expected> {
        std::fs::create_dir_all(folder)?;
        let mut out = BufWriter::new(File::create(folder.join("events.ndjson"))?);
        for event in self.events() {
            let (user, at) = (event.user_id.0, event.created_at.0);
            let line = json!({"user": user, "activity": event.activity_type, "category": event.element_id, "at": at});
            writeln!(out, "{line}")?;
        }
        out.flush()?;
        let until = self.until();
        let mut segments = Vec::new();
        for (id, segment) in (1_i64..).zip(&self.segments) {
            let plan = compile(&segment.clause()).map_err(|error| error.to_string())?;
            segments.push(json!({
                "id": id,
                "activity": segment.activity(),
                "category": segment.category(),
                "days": segment.days,
                "at_least": segment.at_least,
                "clause": segment.clause(),
                "members_sql": members_query(&plan, &|_| None, until)?,
            }));
        }
        let segments = json!({"until": until.0, "segments": segments});
        std::fs::write(folder.join("segments.json"), serde_json::to_vec(&segments)?)?;
        std::fs::write(folder.join("macros.sql"), MACROS)?;
        let expected = self.expected(until);
        std::fs::write(folder.join("answer.json"), serde_json::to_vec(&expected)?)?;
        Ok(expected)
    }

    fn expected(&self, until: Timestamp) -> Expected {
        let mut machine = machine_with(&self.clauses());
        let (mut transitions, mut after_events) = (0, BTreeMap::new());
        for (number, event) in self.events().enumerate() {
            machine.event(&event, false, event.processed_at);
            machine.settle();
            transitions += take_transitions(&mut machine);
            if number + NOTED >= self.events {
                let segments = machine.memberships(event.user_id).into_iter().map(|segment| segment.0).collect();
                after_events.insert(number, segments);
            }
        }
        machine.advance(until, usize::MAX);
        transitions += take_transitions(&mut machine);
        let members = (1..=self.segments.len() as i64).map(|id| {
            let mut users: Vec<i64> = machine.members(SegmentId(id)).into_iter().map(|user| user.0).collect();
            users.sort_unstable();
            (id, users)
        });
        Expected { members: members.collect(), transitions, after_events }
    }
}

#[cfg(test)]
mod tests {
    use segment_engine::event::Event;
    use serde_json::Value;

    use super::*;

    /// Counts the events of each user in each segment's window, as the clause says.
    fn counted(segment: Rolling, events: &[Event], at: Timestamp) -> Vec<i64> {
        let since = at.0 - segment.days as i64 * DAY;
        let mut counts = BTreeMap::<i64, u64>::new();
        for event in events.iter().filter(|event| (since..=at.0).contains(&event.created_at.0)) {
            let is_of = |field: &Option<Box<str>>, name: String| field.as_deref() == Some(&*name);
            if is_of(&event.activity_type, segment.activity()) && is_of(&event.element_id, segment.category()) {
                *counts.entry(event.user_id.0).or_default() += 1;
            }
        }
        counts.into_iter().filter(|(_, count)| *count >= segment.at_least).map(|(user, _)| user).collect()
    }

    #[test]
    fn the_expected_answer_is_what_the_clauses_say() {
        let workload = Workload::new(2_000, 60);
        let expected = workload.expected(workload.until());
        let events: Vec<Event> = workload.events().collect();
        for (id, segment) in (1..).zip(&workload.segments) {
            let members = counted(*segment, &events, workload.until());
            assert_eq!(expected.members[&id], members, "{}", segment.clause());
        }
        assert!(expected.members.values().any(|users| !users.is_empty()));
        assert_eq!(expected.after_events.len(), NOTED);
        for (number, event) in events.iter().enumerate().skip(2_000 - NOTED) {
            let is_member = |id: &i64| {
                let segment = workload.segments[*id as usize - 1];
                counted(segment, &events, event.created_at).contains(&event.user_id.0)
            };
            let segments: Vec<i64> = (1..=60).filter(is_member).collect();
            assert_eq!(expected.after_events[&number], segments, "after event {number}");
        }
    }

    #[test]
    fn a_workload_is_written_with_the_same_answer() {
        let folder = tempfile::tempdir().unwrap();
        let workload = Workload::new(300, 5);
        let expected = workload.write(folder.path()).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let instants: Vec<i64> = read("events.ndjson")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["at"].as_i64().unwrap())
            .collect();
        assert_eq!(instants.len(), 300);
        assert!(instants.windows(2).all(|pair| pair[0] < pair[1] && pair[1] % 1_000 == 0), "different milliseconds");
        let segments: Value = serde_json::from_str(&read("segments.json")).unwrap();
        assert_eq!(segments["segments"].as_array().unwrap().len(), 5);
        assert_eq!(segments["until"], instants[299] + DAY);
        let answer: Value = serde_json::from_str(&read("answer.json")).unwrap();
        assert_eq!(answer, serde_json::to_value(&expected).unwrap());
    }
}

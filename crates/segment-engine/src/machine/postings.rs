//! From an event to the accumulators that may count it, without a look at the others.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::accumulator_key::{AccumulatorId, AccumulatorKey};
use crate::eval::{EventScope, evaluate, find};
use crate::event::Event;
use crate::plan::Expr;
use crate::time::Timestamp;
use crate::value::Value;

/// Accumulators, by one text of the event that their filter asks for: with a hundred thousand
/// segments of single pages or products, an event finds the few of its own.
#[derive(Debug, Default)]
pub(super) struct Postings {
    /// Those that ask for no text.
    unnamed: Vec<AccumulatorId>,
    /// By what they ask, then by the text.
    named: Vec<(Expr, ByText)>,
}

type ByText = FxHashMap<Box<str>, Vec<AccumulatorId>>;

impl Postings {
    pub(super) fn add(&mut self, id: AccumulatorId, key: &AccumulatorKey) {
        let Some((operand, texts)) = key.asked_text() else {
            self.unnamed.push(id);
            return;
        };
        let by_text = match self.named.iter().position(|(other, _)| other == operand) {
            Some(place) => &mut self.named[place].1,
            None => {
                self.named.push((operand.clone(), ByText::default()));
                &mut self.named.last_mut().expect("just added").1
            }
        };
        for text in texts {
            by_text.entry(text.into()).or_default().push(id);
        }
    }

    pub(super) fn remove(&mut self, id: AccumulatorId, key: &AccumulatorKey) {
        let Some((operand, texts)) = key.asked_text() else {
            self.unnamed.retain(|other| *other != id);
            return;
        };
        let Some(place) = self.named.iter().position(|(other, _)| other == operand) else { return };
        let by_text = &mut self.named[place].1;
        for text in texts {
            if let Some(ids) = by_text.get_mut(text) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    by_text.remove(text);
                }
            }
        }
        if by_text.is_empty() {
            self.named.swap_remove(place);
        }
    }

    /// Calls `visit` with each accumulator that the event may count for, once.
    pub(super) fn find(&self, event: &Event, mut visit: impl FnMut(AccumulatorId)) {
        self.unnamed.iter().copied().for_each(&mut visit);
        for (operand, by_text) in &self.named {
            let found = text_of(operand, event).and_then(|text| by_text.get(&*text));
            found.into_iter().flatten().copied().for_each(&mut visit);
        }
    }
}

/// Returns the text that an operand is for the event; `None` if it is NULL.
fn text_of<'a>(operand: &Expr, event: &'a Event) -> Option<Cow<'a, str>> {
    let borrowed = match operand {
        Expr::Event(column) => return event.text(*column).map(Cow::Borrowed),
        Expr::Payload(path) => find(&event.payload, &path.keys)?.as_str(),
        _ => None,
    };
    if let Some(text) = borrowed {
        return Some(Cow::Borrowed(text));
    }
    // A number in JSON is a text too. Operands do not depend on now.
    match evaluate(operand, &mut EventScope { event, now: Timestamp::MIN }) {
        Value::Text(text) => Some(Cow::Owned(text.as_ref().to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::event::Position;
    use crate::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
    use crate::language::compile;
    use crate::machine::inputs::holds;
    use crate::machine::{Definition, Machine, Rule, Settings};

    const FILTERS: [&str; 14] = [
        "url = 'a'",
        "url = 'b'",
        "url IN ('a', 'c')",
        "url = 'a' OR url = 'b'",
        "url <> 'a'",
        "activity_type = 'x' AND url = 'a'",
        "activity_type IN ('x', 'y') AND url IN ('a', 'b', 'c') AND region = 'r'",
        "activity_type = 'x'",
        "region = 'r' OR url = 'a'",
        "payload->>'p' = '1'",
        "payload->>'p' IN ('true', 'text', '1.0')",
        "payload->'q'->>'p' = 'text' AND url = 'a'",
        "url = 'a' AND url = 'b'",
        "order_total > 5",
    ];

    fn machine() -> Machine {
        let mut machine = Machine::new(Settings::default());
        for (id, filter) in (1..).zip(FILTERS) {
            let clause = format!("count(*) FILTER (WHERE {filter}) > 0");
            let rule: Rule = compile(&clause).unwrap().into();
            let (tag, where_statement) = (format!("s{id}"), clause);
            let definition = Definition { id: SegmentId(id), tag, version: SegmentVersion(1), where_statement, rule };
            machine.define(definition, 0, Timestamp(0));
            machine.activate(SegmentId(id), SegmentVersion(1), Timestamp(0));
        }
        machine
    }

    fn events() -> Vec<Event> {
        let mut events = Vec::new();
        let payloads =
            [json!({}), json!({"p": 1}), json!({"p": "1"}), json!({"p": 1.0}), json!({"p": true}), json!({"p": null})];
        let others = [json!({"p": "text", "q": {"p": "text"}}), json!({"p": {"p": 1}, "q": "text"})];
        for payload in payloads.into_iter().chain(others) {
            for (activity, url, region) in [
                (None, None, None),
                (Some("x"), Some("a"), None),
                (Some("x"), Some("b"), Some("r")),
                (Some("y"), Some("c"), Some("r")),
                (Some("z"), Some("a"), Some("s")),
                (None, Some("a"), Some("r")),
                (None, Some(""), Some("r")),
            ] {
                events.push(Event {
                    user_id: UserId(1),
                    event_id: None,
                    client_ref_id: "u".into(),
                    id_type: None,
                    region: region.map(Into::into),
                    device_type: None,
                    country: None,
                    activity_type: activity.map(Into::into),
                    url: url.map(Into::into),
                    order_total: None,
                    order_id: None,
                    element_id: None,
                    created_at: Timestamp(1),
                    processed_at: Timestamp(1),
                    payload: Arc::new(payload.clone()),
                    position: Position { partition: PartitionId(0), offset: 0 },
                });
            }
        }
        events
    }

    fn found(machine: &Machine, event: &Event) -> Vec<AccumulatorId> {
        let mut found = Vec::new();
        machine.catalog.triggers.accumulators(event, |id| found.push(id));
        found.sort_unstable();
        found
    }

    #[test]
    fn an_event_finds_each_accumulator_that_counts_it_once() {
        let machine = machine();
        let (mut counted, mut looked_at) = (0, 0);
        for event in events() {
            let found = found(&machine, &event);
            assert!(found.is_sorted_by(|a, b| a < b), "each once");
            for (id, shared) in machine.catalog.complete_accumulators() {
                let counts = shared.key.fixed.iter().all(|condition| holds(condition, &event, Timestamp(1)));
                assert!(!counts || found.contains(&id), "{event:?}: {}", shared.key.canonical_text());
                counted += usize::from(counts);
            }
            looked_at += found.len();
        }
        assert!(counted > 50, "{counted}");
        assert!(looked_at < 5 * counted / 2, "{looked_at} for {counted}");
    }

    #[test]
    fn nothing_of_a_removed_segment_is_found() {
        let mut machine = machine();
        for id in 1..=FILTERS.len() as i64 {
            machine.remove_segment(SegmentId(id), Timestamp(0));
            let left = machine.catalog.complete_accumulators().map(|(id, _)| id).collect::<Vec<_>>();
            for event in events() {
                assert!(found(&machine, &event).iter().all(|id| left.contains(id)), "after segment {id}");
            }
        }
        assert!(events().iter().all(|event| found(&machine, event).is_empty()));
    }
}

//! The segments of a replay: the tags that their clauses name, and the changes of the present
//! instant.

use std::collections::BTreeMap;

use segment_engine::ids::{SegmentId, SegmentVersion};
use segment_engine::language::compile;
use segment_engine::machine::{Definition, Machine};
use segment_engine::plan::Plan;
use segment_engine::time::Timestamp;

use super::error::{Problem, ReplayError};
use super::history::History;
use super::identities::Identities;

#[derive(Default)]
pub(crate) struct Segments {
    /// Every tag ever defined. A segment's id is the place of its tag, from 1.
    tags: Vec<String>,
    /// The tags that each clause in force names.
    in_force: BTreeMap<String, Vec<String>>,
    /// The changes of this instant, by tag. Of several, the last one counts.
    changed: BTreeMap<String, Change>,
    /// Grows with each definition.
    version: SegmentVersion,
}

struct Change {
    line: u64,
    /// `None` deletes the segment.
    clause: Option<(String, Plan)>,
}

impl Segments {
    /// Notes a `segment` line. It takes effect together with the other lines of its instant.
    pub(crate) fn change(&mut self, line: u64, tag: String, where_statement: Option<String>) -> Result<(), Problem> {
        let clause = match where_statement {
            Some(text) => {
                let plan = compile(&text)
                    .map_err(|error| Problem::new(format!("segment `{tag}` is refused ({}): {error}", error.code)))?;
                Some((text, plan))
            }
            None => {
                let before = self.changed.get(&tag).map(|change| change.clause.is_some());
                if !before.unwrap_or_else(|| self.in_force.contains_key(&tag)) {
                    return Err(Problem::new(format!("there is no segment `{tag}` to delete")));
                }
                None
            }
        };
        self.changed.insert(tag, Change { line, clause });
        Ok(())
    }

    /// Puts the instant's changes in force, from the history so far.
    pub(crate) fn apply(
        &mut self,
        machine: &mut Machine,
        history: &History,
        identities: &Identities,
        at: Timestamp,
    ) -> Result<(), ReplayError> {
        if self.changed.is_empty() {
            return Ok(());
        }
        let changed = std::mem::take(&mut self.changed);
        self.in_force = self.check(&changed)?;
        let mut versions = Vec::new();
        for (tag, change) in changed {
            match change.clause {
                Some((where_statement, plan)) => {
                    self.version = self.version.next();
                    let (id, version) = (self.id(tag.clone()), self.version);
                    let definition = Definition { id, tag, version, where_statement, rule: plan.into() };
                    machine.define(definition, history.offset(), at);
                    if !machine.incomplete().is_empty() && !history.is_whole() {
                        return Err(history.too_long().at(change.line));
                    }
                    versions.push((id, version));
                }
                None => machine.remove_segment(self.id(tag), at),
            }
        }
        history.fill(machine, identities);
        for (id, version) in versions {
            machine.activate(id, version, at);
        }
        Ok(())
    }

    /// Returns the id of a segment, also of a deleted one.
    pub(crate) fn known(&self, tag: &str) -> Option<SegmentId> {
        let place = self.tags.iter().position(|known| known == tag)?;
        Some(SegmentId(i64::try_from(place).expect("fewer than 2⁶³ segments") + 1))
    }

    /// Returns the tag of a segment id that the machine emitted.
    pub(crate) fn tag(&self, id: SegmentId) -> &str {
        &self.tags[usize::try_from(id.0 - 1).expect("segment ids count from 1")]
    }

    fn id(&mut self, tag: String) -> SegmentId {
        self.known(&tag).unwrap_or_else(|| {
            self.tags.push(tag);
            SegmentId(i64::try_from(self.tags.len()).expect("fewer than 2⁶³ segments"))
        })
    }

    /// Returns the tags that every clause names after the changes. Refuses unknown tags, cycles,
    /// and the deletion of a segment that others name.
    fn check(&self, changed: &BTreeMap<String, Change>) -> Result<BTreeMap<String, Vec<String>>, ReplayError> {
        let mut after = self.in_force.clone();
        for (tag, change) in changed {
            match &change.clause {
                Some((_, plan)) => after.insert(tag.clone(), plan.segments.clone()),
                None => after.remove(tag),
            };
        }
        for (tag, change) in changed.iter().filter(|(_, change)| change.clause.is_none()) {
            let dependents: Vec<String> =
                after.iter().filter(|(_, named)| named.contains(tag)).map(|(other, _)| format!("`{other}`")).collect();
            if !dependents.is_empty() {
                let message = format!("segment `{tag}` cannot be deleted while {} name it", dependents.join(", "));
                return Err(Problem::new(message).at(change.line));
            }
        }
        for (tag, change) in changed {
            let unknown = after.get(tag).and_then(|named| named.iter().find(|named| !after.contains_key(*named)));
            if let Some(unknown) = unknown {
                let message = format!("segment `{tag}` names segment('{unknown}'), which is not defined");
                return Err(Problem::new(message).at(change.line));
            }
            if let Some(cycle) = cycle(&after, tag) {
                let message = format!("segment `{tag}` would depend on itself: {}", cycle.join(" → "));
                return Err(Problem::new(message).at(change.line));
            }
        }
        Ok(after)
    }
}

/// Returns a path from the tag back to itself.
fn cycle<'a>(names: &'a BTreeMap<String, Vec<String>>, tag: &'a str) -> Option<Vec<&'a str>> {
    let mut paths = vec![vec![tag]];
    let mut seen = vec![tag];
    while let Some(path) = paths.pop() {
        let last = *path.last().expect("paths begin with the tag");
        for named in names.get(last).into_iter().flatten() {
            let longer = || path.iter().copied().chain([named.as_str()]).collect();
            if named == tag {
                return Some(longer());
            }
            if !seen.contains(&named.as_str()) {
                seen.push(named);
                paths.push(longer());
            }
        }
    }
    None
}

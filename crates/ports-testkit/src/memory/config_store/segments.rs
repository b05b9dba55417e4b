//! Segments in memory.

use async_trait::async_trait;
use segment_engine::ids::SegmentId;
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, State};
use ports::ErrorCode;
use ports::config_store::{
    Activity, ConfigStoreError, NewSegment, OutboxEntry, Page, Segment, SegmentChange, SegmentStore, change_segment,
    cycle_refused, in_use, unknown_tags,
};

impl State {
    fn by_tag(&self, tag: &str) -> Option<&Segment> {
        self.segments.values().find(|segment| segment.tag == tag)
    }

    fn check_tag(&self, segment: &Segment) -> Result<(), ConfigStoreError> {
        match self.by_tag(&segment.tag) {
            Some(other) if other.id != segment.id => {
                Err(ConfigStoreError::taken(ErrorCode::TagTaken, "tag", &segment.tag, other.id.0))
            }
            _ => Ok(()),
        }
    }

    fn check_unused(&self, segment: &Segment) -> Result<(), ConfigStoreError> {
        let uses = self.segments.values().filter(|other| other.id != segment.id && other.uses.contains(&segment.tag));
        let users: Vec<String> = uses.map(|other| other.tag.clone()).collect();
        if users.is_empty() { Ok(()) } else { Err(in_use(&segment.tag, &users)) }
    }

    fn check_uses(&self, segment: &Segment) -> Result<(), ConfigStoreError> {
        // The segment's own row does not count, since it may still have the tag that this write
        // changes.
        let another = |tag: &str| self.by_tag(tag).is_some_and(|other| other.id != segment.id);
        let unknown = |tag: &&String| **tag != segment.tag && !another(tag);
        let missing: Vec<String> = segment.uses.iter().filter(unknown).cloned().collect();
        if !missing.is_empty() {
            return Err(unknown_tags(&missing));
        }
        match self.path_to(&segment.tag, &segment.uses, vec![segment.tag.clone()]) {
            None => Ok(()),
            Some(path) => Err(cycle_refused(&path)),
        }
    }

    /// Finds a path along `uses` that ends in `target`, depth first.
    fn path_to(&self, target: &str, uses: &[String], path: Vec<String>) -> Option<Vec<String>> {
        uses.iter().find_map(|tag| {
            let mut path = path.clone();
            path.push(tag.clone());
            if tag == target {
                return Some(path);
            }
            self.by_tag(tag).and_then(|next| self.path_to(target, &next.uses, path))
        })
    }
}

#[async_trait]
impl SegmentStore for MemoryConfigStore {
    async fn create_segment(&self, new: NewSegment, now: Timestamp) -> Result<Segment, ConfigStoreError> {
        let mut state = self.state();
        let segment = Segment::new(SegmentId(state.last_segment + 1), new, now);
        state.check_tag(&segment)?;
        state.check_uses(&segment)?;
        state.last_segment = segment.id.0;
        state.send(OutboxEntry::segment(&segment));
        state.segments.insert(segment.id, segment.clone());
        Ok(segment)
    }

    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>, ConfigStoreError> {
        Ok(self.state().segments.get(&id).cloned())
    }

    async fn segment_by_tag(&self, tag: &str) -> Result<Option<Segment>, ConfigStoreError> {
        Ok(self.state().by_tag(tag).cloned())
    }

    async fn count_segments(&self) -> Result<u64, ConfigStoreError> {
        Ok(self.state().segments.len() as u64)
    }

    async fn segments(&self, page: Page) -> Result<Vec<Segment>, ConfigStoreError> {
        let state = self.state();
        Ok(state
            .segments
            .range(SegmentId(page.after.saturating_add(1))..)
            .take(page.limit)
            .map(|(_, s)| s.clone())
            .collect())
    }

    async fn generics_and_by(&self, activity_code: &str) -> Result<Vec<Segment>, ConfigStoreError> {
        let state = self.state();
        let activity = state.activities.values().find(|activity| activity.code == activity_code).map(|a| a.id);
        let linked = |segment: &Segment| activity.is_some_and(|id| state.links.contains(&(id, segment.id)));
        Ok(state.segments.values().filter(|segment| segment.is_generic || linked(segment)).cloned().collect())
    }

    async fn update_segment(
        &self,
        id: SegmentId,
        change: SegmentChange,
        now: Timestamp,
    ) -> Result<Segment, ConfigStoreError> {
        let mut state = self.state();
        let old = state.require_segment(id)?.clone();
        let (segment, is_redefined) = change_segment(&old, change, now);
        if segment.tag != old.tag {
            state.check_tag(&segment)?;
            state.check_unused(&old)?;
        }
        state.check_uses(&segment)?;
        if is_redefined {
            state.send(OutboxEntry::segment(&segment));
        }
        state.segments.insert(id, segment.clone());
        Ok(segment)
    }

    async fn delete_segment(&self, id: SegmentId) -> Result<(), ConfigStoreError> {
        let mut state = self.state();
        let segment = state.require_segment(id)?.clone();
        state.check_unused(&segment)?;
        state.segments.remove(&id);
        state.links.retain(|(_, linked)| *linked != id);
        state.memberships.retain(|(_, of), _| *of != id);
        state.manual.retain(|(_, of)| *of != id);
        state.send(OutboxEntry::segment_deleted(id));
        Ok(())
    }

    async fn activities_of(&self, segment: SegmentId) -> Result<Vec<Activity>, ConfigStoreError> {
        let state = self.state();
        state.require_segment(segment)?;
        let linked = state.links.iter().filter(|(_, of)| *of == segment);
        Ok(linked.filter_map(|(activity, _)| state.activities.get(activity).cloned()).collect())
    }
}

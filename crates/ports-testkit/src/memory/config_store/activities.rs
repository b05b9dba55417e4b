//! Activities in memory.

use async_trait::async_trait;
use segment_engine::ids::SegmentId;
use segment_engine::time::Timestamp;

use super::{MemoryConfigStore, State};
use ports::ErrorCode;
use ports::config_store::{Activity, ActivityChange, ActivityStore, ConfigStoreError, NewActivity, Page};

impl State {
    fn check_code(&self, activity: &Activity) -> Result<(), ConfigStoreError> {
        match self.activities.values().find(|other| other.code == activity.code && other.id != activity.id) {
            None => Ok(()),
            Some(other) => Err(ConfigStoreError::taken(ErrorCode::CodeTaken, "code", &activity.code, other.id)),
        }
    }
}

#[async_trait]
impl ActivityStore for MemoryConfigStore {
    async fn create_activity(&self, new: NewActivity, now: Timestamp) -> Result<Activity, ConfigStoreError> {
        let mut state = self.state();
        let NewActivity { title, description, code } = new;
        let id = state.last_activity + 1;
        let activity = Activity { id, title, description, code, created_at: now, updated_at: now };
        state.check_code(&activity)?;
        state.last_activity = id;
        state.activities.insert(id, activity.clone());
        Ok(activity)
    }

    async fn activity(&self, id: i64) -> Result<Option<Activity>, ConfigStoreError> {
        Ok(self.state().activities.get(&id).cloned())
    }

    async fn activity_by_code(&self, code: &str) -> Result<Option<Activity>, ConfigStoreError> {
        Ok(self.state().activities.values().find(|activity| activity.code == code).cloned())
    }

    async fn activities(&self, page: Page) -> Result<Vec<Activity>, ConfigStoreError> {
        let state = self.state();
        Ok(state.activities.range(page.after.saturating_add(1)..).take(page.limit).map(|(_, a)| a.clone()).collect())
    }

    async fn update_activity(
        &self,
        id: i64,
        change: ActivityChange,
        now: Timestamp,
    ) -> Result<Activity, ConfigStoreError> {
        let mut state = self.state();
        let activity = state.require_activity(id)?.clone().changed(change, now);
        state.check_code(&activity)?;
        state.activities.insert(id, activity.clone());
        Ok(activity)
    }

    async fn delete_activity(&self, id: i64) -> Result<(), ConfigStoreError> {
        let mut state = self.state();
        state.require_activity(id)?;
        state.activities.remove(&id);
        state.links.retain(|(activity, _)| *activity != id);
        Ok(())
    }

    async fn link_activity(&self, activity: i64, segment: SegmentId) -> Result<(), ConfigStoreError> {
        let mut state = self.state();
        state.require_activity(activity)?;
        state.require_segment(segment)?;
        state.links.insert((activity, segment));
        Ok(())
    }

    async fn unlink_activity(&self, activity: i64, segment: SegmentId) -> Result<(), ConfigStoreError> {
        let mut state = self.state();
        state.require_activity(activity)?;
        state.require_segment(segment)?;
        state.links.remove(&(activity, segment));
        Ok(())
    }
}

//! Activities: the kinds of events that the site knows, and their links to segments.

use async_trait::async_trait;
use segment_engine::ids::SegmentId;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, Page};

/// An activity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Starts at 1 and is never reused.
    pub id: i64,
    /// Shown to people.
    pub title: String,
    /// Shown to people.
    pub description: Option<String>,
    /// The value of `payload.activity_type` in events. Unique.
    pub code: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// An activity to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewActivity {
    /// As in [`Activity`].
    pub title: String,
    /// As in [`Activity`].
    pub description: Option<String>,
    /// As in [`Activity`].
    pub code: String,
}

/// What to change of an activity: `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivityChange {
    /// As in [`Activity`].
    pub title: Option<String>,
    /// As in [`Activity`]; `Some(None)` empties it.
    pub description: Option<Option<String>>,
    /// As in [`Activity`].
    pub code: Option<String>,
}

/// The activities of the config store.
#[async_trait]
pub trait ActivityStore: Send + Sync + 'static {
    /// Creates an activity. Conflict: `CODE_TAKEN`.
    async fn create_activity(&self, new: NewActivity, now: Timestamp) -> Result<Activity, ConfigStoreError>;

    /// Returns the activity with this id.
    async fn activity(&self, id: i64) -> Result<Option<Activity>, ConfigStoreError>;

    /// Returns the activity with this code.
    async fn activity_by_code(&self, code: &str) -> Result<Option<Activity>, ConfigStoreError>;

    /// Returns a page of the activities.
    async fn activities(&self, page: Page) -> Result<Vec<Activity>, ConfigStoreError>;

    /// Changes an activity. Conflict: `CODE_TAKEN`.
    async fn update_activity(
        &self,
        id: i64,
        change: ActivityChange,
        now: Timestamp,
    ) -> Result<Activity, ConfigStoreError>;

    /// Deletes an activity and its links.
    async fn delete_activity(&self, id: i64) -> Result<(), ConfigStoreError>;

    /// Links an activity to a segment. Idempotent.
    async fn link_activity(&self, activity: i64, segment: SegmentId) -> Result<(), ConfigStoreError>;

    /// Removes a link. Idempotent, but activity and segment must exist.
    async fn unlink_activity(&self, activity: i64, segment: SegmentId) -> Result<(), ConfigStoreError>;
}

impl Activity {
    /// Returns the activity with a change applied.
    pub fn changed(mut self, change: ActivityChange, now: Timestamp) -> Activity {
        self.title = change.title.unwrap_or(self.title);
        self.description = change.description.unwrap_or(self.description);
        self.code = change.code.unwrap_or(self.code);
        self.updated_at = now;
        self
    }
}

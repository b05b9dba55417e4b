//! What the handlers share: ports, settings, and look-ups that fail with a 404.

use std::sync::Arc;

use ports::ErrorCode;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, Segment, User};
use ports::event_sink::EventSink;
use ports::log::{Log, Topic};
use ports::segment_queries::SegmentQueries;
use segment_engine::ids::{SegmentId, UserId};
use segment_engine::time::Timestamp;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use uss_http::Problem;

use crate::erasure::ErasureDelays;

/// The topics' public names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Of [`Topic::Events`].
    pub events: String,
    /// Of [`Topic::Errors`].
    pub errors: String,
    /// Of [`Topic::Notifications`].
    pub notifications: String,
    /// Of [`Topic::Config`].
    pub config: String,
}

impl Default for TopicNames {
    fn default() -> Self {
        Self {
            events: "event_ingested_topic".to_owned(),
            errors: "error_topic".to_owned(),
            notifications: "user_segment_notification_topic".to_owned(),
            config: "segment_config_topic".to_owned(),
        }
    }
}

impl TopicNames {
    /// Returns every topic with its name.
    pub fn all(&self) -> [(Topic, &str); 4] {
        [
            (Topic::Events, &self.events),
            (Topic::Errors, &self.errors),
            (Topic::Notifications, &self.notifications),
            (Topic::Config, &self.config),
        ]
    }
}

/// How many segments there may be. Segments beyond a lowered bound stay. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SegmentBound {
    segments_max: u32,
    /// Locked from the count until the row is written, so that two calls cannot both take the last
    /// place.
    counting: Arc<Mutex<()>>,
}

impl SegmentBound {
    /// Allows at most so many segments.
    pub fn of(segments_max: u32) -> Self {
        Self { segments_max, counting: Arc::default() }
    }

    /// Reserves a place for one more segment. Keep the guard until the segment is written.
    pub(crate) async fn place(&self, store: &dyn ConfigStore) -> Result<MutexGuard<'_, ()>, Problem> {
        let counting = self.counting.lock().await;
        let segments_max = self.segments_max;
        if store.count_segments().await? < u64::from(segments_max) {
            return Ok(counting);
        }
        let message =
            format!("there are {segments_max} segments, which is the limit; delete one, or raise USS_SEGMENTS_MAX");
        Err(Problem::conflict(ErrorCode::SegmentsFull, message))
    }
}

/// The ports and settings of the configuration API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Users, segments and the rest.
    pub store: Arc<dyn ConfigStore>,
    /// The topics and the transitions.
    pub log: Arc<dyn Log>,
    /// Previews, explanations and progress, which only the engine can give.
    pub queries: Arc<dyn SegmentQueries>,
    /// Takes the sample events.
    pub events: Arc<dyn EventSink>,
    /// Stamps what is written.
    pub clock: Arc<dyn Clock>,
    /// Wakes the relay: notified after each call that may have written.
    pub written: Arc<Notify>,
    /// The topics' public names.
    pub topics: TopicNames,
    /// How many segments there may be.
    pub segments: SegmentBound,
    /// How long after a deletion the user's data stays in files.
    pub erasure: ErasureDelays,
    /// True once the server stops: streams without an end of their own end then.
    pub stopped: watch::Receiver<bool>,
}

impl Api {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// With `?fresh=true`, waits until the store's memberships include everything that is in the
    /// log now.
    pub(crate) async fn wait_until_applied(&self, is_wanted: bool) -> Result<(), Problem> {
        if is_wanted {
            self.queries.wait_until_applied().await?;
        }
        Ok(())
    }

    pub(crate) async fn user(&self, id: i64) -> Result<User, Problem> {
        let found = self.store.user(UserId(id)).await?;
        found.ok_or_else(|| Problem::not_found(ErrorCode::UserNotFound, format!("there is no user {id}; check the id")))
    }

    pub(crate) async fn segment(&self, id: SegmentId) -> Result<Segment, Problem> {
        let found = self.store.segment(id).await?;
        found.ok_or_else(|| {
            Problem::not_found(ErrorCode::SegmentNotFound, format!("there is no segment {id}; check the id"))
        })
    }

    pub(crate) async fn segment_by_tag(&self, tag: &str) -> Result<Segment, Problem> {
        let found = self.store.segment_by_tag(tag).await?;
        found.ok_or_else(|| {
            Problem::not_found(
                ErrorCode::SegmentNotFound,
                format!("there is no segment with the tag '{tag}'; check the tag"),
            )
        })
    }
}

//! What the handlers work with.

use std::sync::Arc;

use ports::ErrorCode;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, IdentityKey, Page, Segment, User};
use ports::event_sink::EventSink;
use ports::log::{Log, Topic};
use ports::segment_queries::SegmentQueries;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use uss_http::Problem;

use crate::erasure::ErasureDelays;

/// The names that the topics have outside.
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
    /// All of them, with what they name.
    pub fn all(&self) -> [(Topic, &str); 4] {
        [
            (Topic::Events, &self.events),
            (Topic::Errors, &self.errors),
            (Topic::Notifications, &self.notifications),
            (Topic::Config, &self.config),
        ]
    }
}

/// What ingestion may remember and must forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A user that was deleted, or had been absorbed by one.
    User(UserId),
    /// An identity that a living user lost.
    Identity(IdentityKey),
}

/// How many segments there may be. Those that are there above it stay. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SegmentBound {
    most: u32,
    /// Held from the count to the row that is made, so that two calls do not take the last place both.
    counting: Arc<Mutex<()>>,
}

impl SegmentBound {
    /// At most so many.
    pub fn of(most: u32) -> Self {
        Self { most, counting: Arc::default() }
    }

    /// A place for one more. To be held until the segment is there.
    pub(crate) async fn place(&self, store: &dyn ConfigStore) -> Result<MutexGuard<'_, ()>, Problem> {
        let counting = self.counting.lock().await;
        let most = self.most as usize;
        if store.segments(Page { after: 0, limit: most }).await?.len() < most {
            return Ok(counting);
        }
        let message =
            format!("there are {most} segments, as many as there may be; delete one, or raise USS_SEGMENTS_MAX");
        Err(Problem::conflict(ErrorCode::SegmentsFull, message))
    }
}

/// The ports and settings of the configuration API. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    /// Users, segments and the rest.
    pub store: Arc<dyn ConfigStore>,
    /// For the topics and the transitions.
    pub log: Arc<dyn Log>,
    /// What only the engine knows.
    pub queries: Arc<dyn SegmentQueries>,
    /// Where the seed's events go.
    pub events: Arc<dyn EventSink>,
    /// Stamps what is written.
    pub clock: Arc<dyn Clock>,
    /// Wakes the relay: notified after each call that may have written.
    pub written: Arc<Notify>,
    /// The topics' names.
    pub topics: TopicNames,
    /// How many segments there may be.
    pub segments: SegmentBound,
    /// Called with what is gone: what was remembered of it no longer holds.
    pub forget: Arc<dyn Fn(Gone) + Send + Sync>,
    /// What a deletion answers.
    pub erasure: ErasureDelays,
    /// True once the server is told to stop: answers without an end of their own end then.
    pub stopped: watch::Receiver<bool>,
}

impl Api {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits, if asked, until the store's memberships include everything that is in the log now.
    pub(crate) async fn freshen(&self, fresh: bool) -> Result<(), Problem> {
        if fresh {
            self.queries.wait_until_applied().await?;
        }
        Ok(())
    }

    pub(crate) async fn user(&self, id: i64) -> Result<User, Problem> {
        let found = self.store.user(UserId(id)).await?;
        found.ok_or_else(|| Problem::not_found(ErrorCode::UserNotFound, format!("there is no user {id}; check the id")))
    }

    pub(crate) async fn segment(&self, id: i64) -> Result<Segment, Problem> {
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

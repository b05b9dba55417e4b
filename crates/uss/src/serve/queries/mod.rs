//! What the configuration API asks of engine and warehouse, answered in the same process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use configuration_api::PRODUCER;
use ports::ErrorCode;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, Page, SegmentKind};
use ports::log::Log;
use ports::segment_queries::{BackfillProgress, Explanation, Preview, SegmentQueries, SegmentQueryError};
use ports::warehouse::Warehouse;
use segment_engine::event::UserId;
use segment_engine::language::{compile, compile_saved};
use segment_engine::plan::Plan;
use segment_engine::sql::{QueryError, SegmentSource, members_query};
use segment_users::service::Engine;
use tokio::sync::Notify;

use super::open::Opened;

/// How long a preview may take. The engine answers membership from its own state; only this asks SQL.
const PREVIEW_MAX: Duration = Duration::from_secs(30);

/// How long the engine may take to come to where its answer is right. A worker that is stuck must not hold requests for ever.
const ENGINE_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether the outbox is empty.
const OUTBOX_POLL: Duration = Duration::from_millis(5);

/// The engine, and the warehouse for what only SQL can tell.
pub struct EngineQueries {
    engine: Engine,
    store: Arc<dyn ConfigStore>,
    warehouse: Arc<dyn Warehouse>,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
    written: Arc<Notify>,
    engine_max: Duration,
}

/// The segments that a clause names, by tag.
#[derive(Default)]
struct Named {
    plans: HashMap<String, Plan>,
    lists: HashMap<String, Vec<UserId>>,
}

impl EngineQueries {
    pub fn new(engine: Engine, opened: &Opened) -> Self {
        Self {
            engine,
            store: opened.store.clone(),
            warehouse: opened.warehouse.clone(),
            clock: opened.clock.clone(),
            log: opened.log.clone(),
            written: opened.written.clone(),
            engine_max: ENGINE_MAX,
        }
    }

    /// What the clause names, directly or by way of others: plans, and the members of lists kept by hand. Nothing else is read,
    /// since such lists can be as long as the list of users.
    async fn named(&self, plan: &Plan) -> Result<Named, SegmentQueryError> {
        let mut named = Named::default();
        let mut tags = plan.segments.clone();
        while let Some(tag) = tags.pop() {
            if named.plans.contains_key(&tag) || named.lists.contains_key(&tag) {
                continue;
            }
            let Some(segment) = self.store.segment_by_tag(&tag).await? else { continue };
            if segment.kind == SegmentKind::Manual {
                let members = self.store.members(segment.id, Page::ALL).await?;
                named.lists.insert(tag, members.iter().map(|member| member.user.id).collect());
            } else if let Ok(plan) = compile_saved(&segment.where_statement) {
                tags.extend(plan.segments.iter().cloned());
                named.plans.insert(tag, plan);
            }
        }
        Ok(named)
    }
}

impl EngineQueries {
    /// Returns when the log has every change that the configuration API has answered until now. Without, a client that
    /// creates a segment and asks for it at once may be told of the time before.
    async fn await_outbox(&self) -> Result<(), SegmentQueryError> {
        let end = self.store.outbox_end().await?;
        while self.log.producer_sequence(PRODUCER).await.map_err(unavailable)? < end {
            self.written.notify_one();
            tokio::time::sleep(OUTBOX_POLL).await;
        }
        Ok(())
    }

    /// Returns when memberships and engine have everything that is in the log or on its way there.
    async fn catch_up(&self) -> Result<(), SegmentQueryError> {
        self.await_outbox().await?;
        self.engine.fresh().await.map_err(unavailable)
    }

    /// The engine's answer, if it comes in time.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, SegmentQueryError>>,
    ) -> Result<T, SegmentQueryError> {
        let answer = tokio::time::timeout(self.engine_max, answer).await;
        answer.unwrap_or(Err(SegmentQueryError::Behind(self.engine_max)))
    }
}

/// In the words in which saving the clause would be refused.
fn refused(error: QueryError) -> SegmentQueryError {
    let code = match error {
        QueryError::UnknownSegment(_) => ErrorCode::UnknownSegment,
        QueryError::Cycle(_) => ErrorCode::SegmentCycle,
    };
    SegmentQueryError::Refused { code, message: error.to_string() }
}

fn unavailable(error: impl std::fmt::Display) -> SegmentQueryError {
    SegmentQueryError::Unavailable(error.to_string())
}

#[async_trait]
impl SegmentQueries for EngineQueries {
    async fn explain(&self, user: UserId, tag: &str) -> Result<Explanation, SegmentQueryError> {
        let explanation = async { self.engine.explain(user, tag).await.map_err(unavailable) };
        self.in_time(explanation)
            .await?
            .ok_or_else(|| SegmentQueryError::NotFound(format!("user {user} or segment '{tag}'")))
    }

    async fn preview(&self, where_statement: &str, sample_max: usize) -> Result<Preview, SegmentQueryError> {
        let plan = compile(where_statement)
            .map_err(|error| SegmentQueryError::Refused { code: (&error).into(), message: error.to_string() })?;
        let named = self.named(&plan).await?;
        let resolve = |tag: &str| {
            let plan = named.plans.get(tag).map(SegmentSource::Plan);
            plan.or_else(|| named.lists.get(tag).map(|members| SegmentSource::Members(members)))
        };
        // The warehouse is a moment behind the log; one that takes nothing would stay behind.
        self.warehouse.ping().await?;
        let archived = async {
            self.await_outbox().await?;
            self.engine.archived().await.map_err(unavailable)
        };
        if let Err(error) = self.in_time(archived).await {
            self.warehouse.ping().await?;
            return Err(error);
        }
        let sql = members_query(&plan, &resolve, self.clock.now()).map_err(refused)?;
        let members = tokio::time::timeout(PREVIEW_MAX, self.warehouse.members(&sql)).await;
        let members = members.map_err(|_| SegmentQueryError::TooSlow(PREVIEW_MAX))??;
        let population = self.store.count_users().await?;
        Ok(Preview { size: members.len() as u64, sample: members.into_iter().take(sample_max).collect(), population })
    }

    /// Waits for the engine to know the newest version, which the store has.
    async fn progress(&self, segment: i64) -> Result<BackfillProgress, SegmentQueryError> {
        let unknown = || SegmentQueryError::NotFound(format!("segment {segment}"));
        // Read before the engine is waited for: a version that is saved meanwhile is not asked about, and one of which the
        // engine knows nothing then has been refused by it, and is in force nowhere.
        let version = self.store.segment(segment).await?.ok_or_else(unknown)?.version;
        let progress = async {
            self.catch_up().await?;
            self.engine.progress(segment, version).await.map_err(unavailable)
        };
        let (in_force, partitions, ratio) = self.in_time(progress).await?.ok_or_else(unknown)?;
        Ok(BackfillProgress { version, ratio, partitions: (in_force, partitions) })
    }

    async fn await_fresh(&self) -> Result<(), SegmentQueryError> {
        self.in_time(self.catch_up()).await
    }
}

#[cfg(test)]
mod tests;

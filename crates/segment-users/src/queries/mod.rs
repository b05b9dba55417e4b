//! [`EngineQueries`]: the queries port on the running service and the warehouse.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ports::ErrorCode;
use ports::clock::Clock;
use ports::config_store::{ConfigStore, Page, SegmentKind};
use ports::segment_queries::{BackfillProgress, Explanation, Preview, SegmentQueries, SegmentQueryError};
use ports::warehouse::{Table, Warehouse};
use segment_engine::ids::{SegmentId, UserId};
use segment_engine::language::{compile, compile_saved};
use segment_engine::plan::Plan;
use segment_engine::sql::{QueryError, SegmentSource, members_query, sample_query};
use tokio::sync::{Notify, watch};

use crate::handle::ServiceHandle;

/// How long a preview may take. Only previews run SQL: the engine answers all else from its state.
const PREVIEW_MAX: Duration = Duration::from_secs(30);

/// Up to so many users are a sample, which the warehouse takes. More are all.
const SAMPLED_MAX: usize = 1_000;

/// How long the engine may take to catch up. A stuck worker must not hold requests for ever.
const ENGINE_MAX: Duration = Duration::from_secs(10);

/// The engine, and the warehouse for previews, which run SQL.
pub struct EngineQueries {
    service: ServiceHandle,
    warehouse: Arc<dyn Warehouse>,
    clock: Arc<dyn Clock>,
    outbox: Outbox,
    engine_max: Duration,
}

/// The config store, and the way of its outbox to the log.
pub struct Outbox {
    /// Where changes are written first.
    pub store: Arc<dyn ConfigStore>,
    /// Wakes the relay.
    pub written: Arc<Notify>,
    /// The outbox entry up to which the relay has appended.
    pub relayed: watch::Receiver<u64>,
}

impl Outbox {
    /// Returns when the log has every change that the configuration API has accepted until now. A
    /// client that creates a segment and queries it at once gets the answer after the change.
    async fn wait_until_relayed(&self) -> Result<(), SegmentQueryError> {
        let end = self.store.outbox_end().await?;
        self.written.notify_one();
        let relayed = self.relayed.clone().wait_for(|relayed| *relayed >= end).await.map(drop);
        relayed.map_err(|_| unavailable("the outbox relay has stopped"))
    }
}

/// The segments that a clause names, by tag.
#[derive(Default)]
struct Named {
    plans: HashMap<String, Plan>,
    lists: HashMap<String, Vec<UserId>>,
}

impl EngineQueries {
    /// Returns the queries of a running service.
    pub fn new(service: ServiceHandle, warehouse: Arc<dyn Warehouse>, clock: Arc<dyn Clock>, outbox: Outbox) -> Self {
        Self { service, warehouse, clock, outbox, engine_max: ENGINE_MAX }
    }

    /// Reads what the clause names, directly or by way of other segments: plans, and the members of
    /// manual segments. It reads no other, since a manual list can be as long as the list of users.
    async fn named(&self, plan: &Plan) -> Result<Named, SegmentQueryError> {
        let mut named = Named::default();
        let mut tags = plan.segments.clone();
        while let Some(tag) = tags.pop() {
            if named.plans.contains_key(&tag) || named.lists.contains_key(&tag) {
                continue;
            }
            let Some(segment) = self.outbox.store.segment_by_tag(&tag).await? else { continue };
            if segment.kind == SegmentKind::Manual {
                let members = self.outbox.store.members(segment.id, Page::ALL).await?;
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
    /// Returns when engine and memberships include everything that is in the log or the outbox.
    async fn catch_up(&self) -> Result<(), SegmentQueryError> {
        self.outbox.wait_until_relayed().await?;
        self.service.wait_until_applied().await.map_err(unavailable)
    }

    /// Returns when the warehouse has everything that is in the log or the outbox. It is a moment behind;
    /// one that cannot write would stay behind.
    async fn wait_until_archived(&self) -> Result<(), SegmentQueryError> {
        self.warehouse.ping().await?;
        let archived = async {
            self.outbox.wait_until_relayed().await?;
            self.service.wait_until_archived().await.map_err(unavailable)
        };
        if let Err(error) = self.in_time(archived).await {
            self.warehouse.ping().await?;
            return Err(error);
        }
        Ok(())
    }

    /// Returns the engine's response, or an error if it takes too long.
    async fn in_time<T>(
        &self,
        response: impl Future<Output = Result<T, SegmentQueryError>>,
    ) -> Result<T, SegmentQueryError> {
        let response = tokio::time::timeout(self.engine_max, response).await;
        response.unwrap_or(Err(SegmentQueryError::Behind(self.engine_max)))
    }
}

/// Reads the result of a [`sample_query`].
fn sampled((_, rows): Table) -> Result<(u64, Vec<UserId>), SegmentQueryError> {
    let mut size = 0;
    let mut sample = Vec::with_capacity(rows.len());
    for row in rows {
        let [Some(of_all), Some(user)] = &row[..] else { return Err(unreadable()) };
        size = of_all.parse().map_err(|_| unreadable())?;
        sample.push(UserId(user.parse().map_err(|_| unreadable())?));
    }
    Ok((size, sample))
}

fn unreadable() -> SegmentQueryError {
    SegmentQueryError::Failed("the warehouse's result cannot be read".to_owned())
}

/// Has the code and message with which saving the clause would be refused.
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
        let explanation = async { self.service.explain(user, tag).await.map_err(unavailable) };
        self.in_time(explanation)
            .await?
            .ok_or_else(|| SegmentQueryError::NotFound(format!("user {user} or segment '{tag}'")))
    }

    async fn preview(
        &self,
        where_statement: &str,
        sample_max: usize,
        fresh: bool,
    ) -> Result<Preview, SegmentQueryError> {
        let plan = compile(where_statement)
            .map_err(|error| SegmentQueryError::Refused { code: (&error).into(), message: error.to_string() })?;
        let named = self.named(&plan).await?;
        let resolve = |tag: &str| {
            let plan = named.plans.get(tag).map(SegmentSource::Plan);
            plan.or_else(|| named.lists.get(tag).map(|members| SegmentSource::Members(members)))
        };
        if fresh {
            self.wait_until_archived().await?;
        }
        let now = self.clock.now();
        let as_of = self.service.archived_until(now).await.map_err(unavailable)?;
        let chosen = async {
            if sample_max > SAMPLED_MAX {
                let members = self.warehouse.members(&members_query(&plan, &resolve, now).map_err(refused)?).await?;
                return Ok((members.len() as u64, members.into_iter().take(sample_max).collect()));
            }
            // One at least: its row has the number of all.
            let sql = sample_query(&plan, &resolve, now, sample_max.max(1)).map_err(refused)?;
            let (size, mut sample) = sampled(self.warehouse.query(&sql).await?)?;
            sample.truncate(sample_max);
            Ok((size, sample))
        };
        let (chosen, population) =
            tokio::join!(tokio::time::timeout(PREVIEW_MAX, chosen), self.outbox.store.count_users());
        let (size, sample) = chosen.unwrap_or(Err(SegmentQueryError::TooSlow(PREVIEW_MAX)))?;
        let population = population?;
        Ok(Preview { size, sample, population, as_of })
    }

    /// Waits until the engine knows the newest version, which the store has; not until it has evaluated
    /// anybody.
    async fn progress(&self, segment: SegmentId) -> Result<BackfillProgress, SegmentQueryError> {
        let unknown = || SegmentQueryError::NotFound(format!("segment {segment}"));
        // Read before the wait: a version saved meanwhile is not queried, and if the engine then
        // does not know this one, it has refused it, so the version is in force nowhere.
        let version = self.outbox.store.segment(segment).await?.ok_or_else(unknown)?.version;
        let progress = async {
            self.outbox.wait_until_relayed().await?;
            self.service.wait_until_read().await.map_err(unavailable)?;
            self.service.progress(segment, version).await.map_err(unavailable)
        };
        let (in_force, partitions, ratio) = self.in_time(progress).await?.ok_or_else(unknown)?;
        Ok(BackfillProgress { version, ratio, partitions: (in_force, partitions) })
    }

    async fn wait_until_ordered(&self) -> Result<(), SegmentQueryError> {
        let ordered = async {
            self.outbox.wait_until_relayed().await?;
            self.service.wait_until_ordered().await.map_err(unavailable)
        };
        self.in_time(ordered).await
    }

    async fn wait_until_applied(&self) -> Result<(), SegmentQueryError> {
        self.in_time(self.catch_up()).await
    }
}

#[cfg(test)]
mod tests;

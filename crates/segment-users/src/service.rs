//! The service: every partition's tasks, started, asked and stopped together.

use std::sync::Arc;
use std::time::Duration;

use ports::clock::Clock;
use ports::config_store::MembershipStore;
use ports::log::{Log, LogError, Topic, partition_of};
use segment_engine::event::UserId;
use segment_engine::machine::Explanation;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::definitions;
use crate::erasure::Erasure;
use crate::lane::{self, Lane, Question, until_stopped};
use crate::partition::{Ports, WorkerError};
use crate::retention::Retention;
use crate::settings::Settings;

/// How often archivers are sent on while somebody waits for them.
const HURRY_AGAIN: Duration = Duration::from_millis(20);

/// The running service. Dropping it aborts its tasks; [`Service::stop`] lets them finish.
pub struct Service {
    engine: Engine,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    stop_archivers: watch::Sender<bool>,
    archivers: JoinSet<()>,
}

/// The way to ask the running service. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) lanes: Arc<[Lane]>,
    /// Sends archivers on that wait for a batch to fill.
    hurry: Arc<Notify>,
}

/// The service was stopped, or the partition in question is starting again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the segment service does not answer at the moment")]
pub struct NoAnswer;

impl Service {
    /// Opens every partition and starts its tasks. Returns when all are exactly where they were committed.
    pub async fn start(
        ports: Ports,
        settings: Settings,
        memberships: Arc<dyn MembershipStore>,
    ) -> Result<Self, WorkerError> {
        // What has not happened is to be seen as 0, not as nothing.
        metrics::counter!("uss_audit_disagreements_total").increment(0);
        let (stop_archivers, archivers_stopped) = watch::channel(false);
        let mut archivers = JoinSet::new();
        let hurry = Arc::<Notify>::default();
        let partitions = 0..ports.log.partitions();
        let archived: Vec<_> = partitions
            .map(|id| lane::archive(id, &ports, settings, &hurry, archivers_stopped.clone(), &mut archivers))
            .collect();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut lanes = Vec::new();
        for (partition, archived) in lane::open_all(&ports, settings).await?.into_iter().zip(archived) {
            lanes.push(lane::start(partition, memberships.clone(), archived, stopped.clone(), &mut tasks));
        }
        // After every partition was opened: only what could be begun with is kept.
        if let Some(retention) = Retention::new(ports.clone(), settings, memberships).map(Arc::new) {
            tasks.spawn(until_stopped(stopped.clone(), "retention", 0, move || {
                let retention = retention.clone();
                async move { retention.run().await }
            }));
        }
        if let Some(erasure) = Erasure::new(ports.clone(), settings).map(Arc::new) {
            tasks.spawn(until_stopped(stopped.clone(), "erasure", 0, move || {
                let erasure = erasure.clone();
                async move { erasure.run().await }
            }));
        }
        let log = ports.log.clone();
        tasks.spawn(until_stopped(stopped, "definitions relay", 0, move || definitions::run(log.clone())));
        let engine = Engine { log: ports.log, clock: ports.clock, lanes: lanes.into(), hurry };
        Ok(Self { engine, stop, tasks, stop_archivers, archivers })
    }

    /// The way to ask it.
    pub fn engine(&self) -> Engine {
        self.engine.clone()
    }

    /// Stops the tasks: each worker finishes its turn and writes a checkpoint.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.stop_archivers.send_replace(true);
        while self.archivers.join_next().await.is_some() {}
    }
}

impl Engine {
    /// The partitions whose worker failed and has not been opened again, or has ended.
    pub fn down(&self) -> Vec<u32> {
        let works = |lane: &Lane| *lane.works.borrow() && lane.works.has_changed().is_ok();
        (0..).zip(self.lanes.iter()).filter(|(_, lane)| !works(lane)).map(|(id, _)| id).collect()
    }

    /// Why the user is in the segment of this tag, or not. `None` if either is unknown to the engine.
    pub async fn explain(&self, user: UserId, tag: &str) -> Result<Option<Explanation>, NoAnswer> {
        let lane = &self.lanes[partition_of(user.0, self.log.partitions()) as usize];
        ask(lane, |answer| Question::Explain { user, tag: tag.to_owned(), answer }).await
    }

    /// How far this version of a segment is in force: in how many partitions, of how many, and how much of the work is done,
    /// from 0 to 1. `None` if a partition does not know the segment yet.
    pub async fn progress(&self, segment: i64, version: u64) -> Result<Option<(u32, u32, f64)>, NoAnswer> {
        let (mut in_force, mut done) = (0, 0.0);
        for lane in self.lanes.iter() {
            let Some(ratio) = ask(lane, |answer| Question::Progress { segment, version, answer }).await? else {
                return Ok(None);
            };
            in_force += u32::from(ratio >= 1.0);
            done += ratio;
        }
        let partitions = self.log.partitions();
        Ok(Some((in_force, partitions, done / f64::from(partitions))))
    }

    /// Returns when everything that is in the log now has been applied, and its memberships are in the config store.
    pub async fn fresh(&self) -> Result<(), LogError> {
        // Definitions reach the partitions by way of the config topic; what is in it now must be among what is waited for.
        definitions::relay(&self.log).await?;
        for (partition, lane) in (0..).zip(self.lanes.iter()) {
            let (_, end) = self.log.bounds(Topic::Events, partition).await?;
            // A lane that was dropped ends the wait: the service stops.
            let applied = lane.progress.clone().wait_for(|progress| progress.next_offset >= end).await.map(|at| *at);
            if let Ok(progress) = applied {
                let told = progress.notifications_offset;
                let _ = lane.stored.clone().wait_for(|stored| *stored >= told).await;
            }
        }
        Ok(())
    }

    /// Returns when the warehouse has everything that is in the log now.
    pub async fn archived(&self) -> Result<(), LogError> {
        for (partition, lane) in (0..).zip(self.lanes.iter()) {
            let (_, end) = self.log.bounds(Topic::Events, partition).await?;
            let mut archived = lane.archived.clone();
            while *archived.borrow_and_update() < end {
                self.hurry.notify_waiters();
                // A lane that was dropped ends the wait: the service stops.
                if let Ok(Err(_)) = tokio::time::timeout(HURRY_AGAIN, archived.changed()).await {
                    break;
                }
            }
        }
        Ok(())
    }
}

async fn ask<T>(lane: &Lane, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Result<T, NoAnswer> {
    let (sender, answer) = oneshot::channel();
    let questions: &mpsc::Sender<Question> = &lane.questions;
    questions.send(question(sender)).await.map_err(|_| NoAnswer)?;
    answer.await.map_err(|_| NoAnswer)
}

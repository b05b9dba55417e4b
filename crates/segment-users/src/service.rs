//! The service: starts and stops the tasks of every partition.

use std::sync::Arc;

use ports::config_store::MembershipStore;
use segment_engine::ids::PartitionId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::archiver::{Archiver, Signals};
use crate::definitions;
use crate::erasure::Erasure;
use crate::handle::{PartitionHandle, ServiceHandle};
use crate::membership_writer::MembershipWriter;
use crate::partition::{Partition, Ports, WorkerError};
use crate::retention::Retention;
use crate::settings::Settings;
use crate::stats::LastStats;
use crate::supervise::until_stopped;
use crate::worker::{QUERIES_MAX, Worker, open_all};

/// The running service. Dropping it aborts its tasks; [`Service::stop`] lets them finish.
pub struct Service {
    handle: ServiceHandle,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    stop_archivers: watch::Sender<bool>,
    archivers: JoinSet<()>,
}

impl Service {
    /// Opens every partition and starts its tasks: workers and the relay of definitions on the current
    /// runtime; on `storing` the others, whose long steps would hold up the workers' turns. Returns when
    /// all partitions stand where they were committed.
    pub async fn start(
        ports: Ports,
        settings: Settings,
        memberships: Arc<dyn MembershipStore>,
        storing: Handle,
    ) -> Result<Self, WorkerError> {
        // A counter that has counted nothing shows 0, not nothing.
        metrics::counter!("uss_audit_disagreements_total").increment(0);
        let (stop_archivers, archivers_stopped) = watch::channel(false);
        let mut archivers = JoinSet::new();
        let (any_moved, began) = (watch::Sender::new(()), Instant::now());
        let start = Start { ports: &ports, settings, memberships: &memberships, storing: &storing, any_moved, began };
        let partitions = PartitionId::all(ports.log.partitions());
        let archiving: Vec<_> =
            partitions.map(|id| start.archiver(id, archivers_stopped.clone(), &mut archivers)).collect();
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let mut handles = Vec::new();
        for (partition, archiving) in open_all(&ports, settings).await?.into_iter().zip(archiving) {
            handles.push(start.partition(partition, archiving, stopped.clone(), &mut tasks));
        }
        // After every partition is open: retention keeps only a checkpoint that can be opened.
        if let Some(retention) = Retention::new(ports.clone(), settings, memberships).map(Arc::new) {
            let run = move || {
                let retention = retention.clone();
                async move { retention.run().await }
            };
            tasks.spawn_on(until_stopped(stopped.clone(), "retention", PartitionId(0), run), &storing);
        }
        if let Some(erasure) = Erasure::new(ports.clone(), settings).map(Arc::new) {
            let run = move || {
                let erasure = erasure.clone();
                async move { erasure.run().await }
            };
            tasks.spawn_on(until_stopped(stopped.clone(), "erasure", PartitionId(0), run), &storing);
        }
        let log = ports.log.clone();
        tasks.spawn(until_stopped(stopped, "definitions relay", PartitionId(0), move || definitions::run(log.clone())));
        let handle = ServiceHandle { log: ports.log, clock: ports.clock, partitions: handles.into() };
        Ok(Self { handle, stop, tasks, stop_archivers, archivers })
    }

    /// Returns a handle for queries.
    pub fn handle(&self) -> ServiceHandle {
        self.handle.clone()
    }

    /// Stops the tasks: each worker finishes its turn and writes a checkpoint.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        self.stop_archivers.send_replace(true);
        while self.archivers.join_next().await.is_some() {}
    }
}

/// How an archiver is reached.
struct Archiving {
    archived: watch::Receiver<u64>,
    flush: watch::Sender<u64>,
}

/// What every task is started with.
struct Start<'a> {
    ports: &'a Ports,
    settings: Settings,
    memberships: &'a Arc<dyn MembershipStore>,
    storing: &'a Handle,
    any_moved: watch::Sender<()>,
    /// See [`Signals::began`].
    began: Instant,
}

impl Start<'_> {
    /// Starts a partition's archiver. Archivers start before every worker and end after them: the
    /// recovery of one partition, or a turn, may wait for what another still has to archive.
    fn archiver(&self, id: PartitionId, stop: watch::Receiver<bool>, tasks: &mut JoinSet<()>) -> Archiving {
        let (moved, archived) = watch::channel(0);
        let (flush, flush_wanted) = watch::channel(0);
        let (ports, any_moved) = (self.ports.clone(), self.any_moved.clone());
        let (settings, began) = (self.settings, self.began);
        let run = move || {
            let Ports { log, warehouse, left_out, .. } = ports.clone();
            let (moved, any_moved, flush) = (moved.clone(), any_moved.clone(), flush_wanted.clone());
            let signals = Signals { moved, any_moved, flush, began };
            async move { Archiver::open(id, log, warehouse, left_out, settings).await?.run(signals).await }
        };
        tasks.spawn_on(until_stopped(stop, "archiver", id, run), self.storing);
        Archiving { archived, flush }
    }

    /// Starts the worker and the membership writer of an open partition.
    fn partition(
        &self,
        partition: Partition,
        Archiving { archived, flush }: Archiving,
        stop: watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) -> PartitionHandle {
        let id = partition.id();
        let (queries, received) = mpsc::channel(QUERIES_MAX);
        let (progress_sender, progress) = watch::channel(partition.progress());
        let (marker_sender, marker) = watch::channel(partition.marker);
        let (running_sender, running) = watch::channel(true);
        let (stored_sender, stored) = watch::channel(0);
        let opened_at = self.ports.clock.now();
        let worker = Worker {
            queries: received,
            progress: progress_sender,
            marker: marker_sender,
            running: running_sender,
            archived: archived.clone(),
            flush: flush.clone(),
            stop: stop.clone(),
        };
        tasks.spawn(worker.run(partition));
        let (log, memberships) = (self.ports.log.clone(), self.memberships.clone());
        let run = move || {
            let (log, memberships, stored) = (log.clone(), memberships.clone(), stored_sender.clone());
            async move { MembershipWriter::open(id, log, memberships).await?.run(&stored).await }
        };
        tasks.spawn_on(until_stopped(stop, "membership writer", id, run), self.storing);
        let last_stats = LastStats::default();
        PartitionHandle { queries, progress, running, marker, archived, flush, stored, opened_at, last_stats }
    }
}

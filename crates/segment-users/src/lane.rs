//! One partition's tasks: the worker, its archiver, its membership writer; and how to ask it something.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use ports::config_store::MembershipStore;
use ports::log::{Progress, Topic};
use segment_engine::event::UserId;
use segment_engine::machine::Explanation;
use segment_engine::time::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::archiver::Archiver;
use crate::figures::{PartitionFigures, Said};
use crate::memberships::MembershipWriter;
use crate::partition::{Partition, Ports, WorkerError};
use crate::settings::Settings;

/// How many questions may wait for a partition.
const QUESTIONS_MAX: usize = 256;

/// How long a task that failed waits before it starts again from what is stored.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// The longest sleep, however far away the next deadline is: timers do not notice when the clock of the wall is set, or when
/// the machine was suspended.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// A question to a partition, answered between two turns.
pub(crate) enum Question {
    /// Why is the user in the segment of this tag, or not?
    Explain { user: UserId, tag: String, answer: oneshot::Sender<Option<Explanation>> },
    /// How far is the newest version of this segment? From 0 to 1; `None` if the partition does not know the segment.
    Progress { segment: i64, version: u64, answer: oneshot::Sender<Option<f64>> },
    /// How much is there?
    Figures { answer: oneshot::Sender<PartitionFigures> },
}

/// The way to a partition's tasks.
pub(crate) struct Lane {
    pub(crate) questions: mpsc::Sender<Question>,
    /// Where the worker stands.
    pub(crate) progress: watch::Receiver<Progress>,
    /// Whether its worker works; not so after a failure, until it has been opened again.
    pub(crate) works: watch::Receiver<bool>,
    /// Where its last checkpoint stands.
    pub(crate) marker: watch::Receiver<Progress>,
    /// Up to where the warehouse has its records.
    pub(crate) archived: watch::Receiver<u64>,
    /// Where its memberships stand in the notification topic.
    pub(crate) stored: watch::Receiver<u64>,
    /// When it was opened.
    pub(crate) opened_at: Timestamp,
    /// Its last figures.
    pub(crate) said: Said,
}

/// Starts a partition's archiver, and answers where it stands. It comes before every worker and ends after them: the recovery of
/// one partition may wait for what another is still to archive, and so may a turn.
pub(crate) fn archive(
    id: u32,
    ports: &Ports,
    settings: Settings,
    hurry: &Arc<Notify>,
    stop: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> watch::Receiver<u64> {
    let (archived, archive_moved) = watch::channel(0);
    let (log, warehouse, hurry) = (ports.log.clone(), ports.warehouse.clone(), hurry.clone());
    tasks.spawn(until_stopped(stop, "archiver", id, move || {
        let (log, warehouse, archived, hurry) = (log.clone(), warehouse.clone(), archived.clone(), hurry.clone());
        async move {
            let mut archiver = Archiver::open(id, log, warehouse, settings).await?;
            archived.send_replace(archiver.position());
            archiver.run(&archived, &hurry).await
        }
    }));
    archive_moved
}

/// Opens every partition, in order. As many at once as there are threads: while a checkpoint is read, it is in memory twice.
/// The first failure ends it, and is logged with its partition.
pub(crate) async fn open_all(ports: &Ports, settings: Settings) -> Result<Vec<Partition>, WorkerError> {
    let at_once = Arc::new(Semaphore::new(Handle::current().metrics().num_workers()));
    let mut opening = JoinSet::new();
    for id in 0..ports.log.partitions() {
        let (at_once, ports) = (at_once.clone(), ports.clone());
        opening.spawn(async move {
            let _turn = at_once.acquire_owned().await;
            let opened = caught(Partition::open(id, ports, settings)).await;
            opened.inspect_err(|error| tracing::error!(partition = id, "the partition cannot be opened: {error}"))
        });
    }
    let mut partitions = Vec::new();
    while let Some(opened) = opening.join_next().await {
        partitions.push(opened.map_err(|error| WorkerError::Panicked(error.to_string()))??);
    }
    partitions.sort_by_key(Partition::id);
    Ok(partitions)
}

/// Starts the other tasks of a partition that was opened.
pub(crate) fn start(
    partition: Partition,
    memberships: Arc<dyn MembershipStore>,
    archive_moved: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) -> Lane {
    let (id, ports) = (partition.id, partition.ports.clone());
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    let (progressed, progress) = watch::channel(partition.progress());
    let (checkpointed, marker) = watch::channel(partition.marker);
    let (working, works) = watch::channel(true);
    let (stored_sender, stored) = watch::channel(0);
    let (archived, opened_at) = (archive_moved.clone(), ports.clock.now());
    let worker = Worker { asked, progressed, checkpointed, working, archive_moved, stop: stop.clone() };
    tasks.spawn(worker.run(partition));
    tasks.spawn(until_stopped(stop, "membership writer", id, move || {
        let (log, memberships, stored) = (ports.log.clone(), memberships.clone(), stored_sender.clone());
        async move { MembershipWriter::open(id, log, memberships).await?.run(&stored).await }
    }));
    Lane { questions, progress, works, marker, archived, stored, opened_at, said: Said::default() }
}

/// Runs a task, and runs it again should it fail, until told to stop.
pub(crate) async fn until_stopped<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
    mut stop: watch::Receiver<bool>,
    name: &'static str,
    partition: u32,
    start: impl Fn() -> F,
) {
    loop {
        tokio::select! {
            outcome = start() => {
                if let Err(error) = outcome {
                    tracing::error!(partition, "the {name} stopped and starts again: {error}");
                }
            }
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_DELAY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// A panic as an error.
async fn caught<T>(work: impl Future<Output = Result<T, WorkerError>>) -> Result<T, WorkerError> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|panic| Err(WorkerError::Panicked(message_of(&*panic))))
}

/// What a panic says.
fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

struct Worker {
    asked: mpsc::Receiver<Question>,
    progressed: watch::Sender<Progress>,
    checkpointed: watch::Sender<Progress>,
    working: watch::Sender<bool>,
    archive_moved: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, mut partition: Partition) {
        loop {
            // A panic is a defect, but not a reason to leave the partition's users alone for ever.
            self.working.send_replace(true);
            let Err(error) = caught(self.turns(&mut partition)).await else { return };
            self.working.send_replace(false);
            let (id, ports, settings) = (partition.id, partition.ports.clone(), partition.settings);
            tracing::error!(partition = id, "the worker stopped and starts again from its last commit: {error}");
            partition = loop {
                tokio::select! {
                    () = tokio::time::sleep(RESTART_DELAY) => {}
                    _ = self.stop.wait_for(|stop| *stop) => return,
                }
                match caught(Partition::open(id, ports.clone(), settings)).await {
                    Ok(partition) => break partition,
                    Err(error) => tracing::error!(partition = id, "the partition cannot be opened: {error}"),
                }
            };
        }
    }

    /// Turn after turn until told to stop; then a last checkpoint, so that the next start is quick.
    async fn turns(&mut self, partition: &mut Partition) -> Result<(), WorkerError> {
        let mut questions = Vec::new();
        loop {
            // Taken here too: a worker that always has more to do must not keep waiting who asks.
            while questions.len() < QUESTIONS_MAX
                && let Ok(question) = self.asked.try_recv()
            {
                questions.push(question);
            }
            let turn = partition.turn().await?;
            let filling = match partition.backfill_step().await {
                Err(WorkerError::Warehouse(error)) => {
                    tracing::warn!(partition = partition.id, "a new segment waits for its history: {error}");
                    false
                }
                outcome => outcome?,
            };
            partition.checkpoint_if_due().await?;
            self.progressed.send_replace(partition.progress());
            self.checkpointed.send_replace(partition.marker);
            for question in questions.drain(..) {
                answer(partition, question);
            }
            if *self.stop.borrow() {
                return partition.checkpoint().await;
            }
            if turn.more || filling {
                tokio::task::yield_now().await;
                continue;
            }
            let log = partition.ports.log.clone();
            let wake_at = partition.next_due().min(partition.checkpoint_due());
            tokio::select! {
                () = log.wait_for(Topic::Events, partition.id, partition.progress.next_offset) => {}
                () = tokio::time::sleep(until(wake_at, partition.ports.clock.now())) => {}
                // A new segment may be waiting for the archiver to come as far as its history reaches.
                _ = self.archive_moved.changed() => {}
                Some(question) = self.asked.recv() => questions.push(question),
                _ = self.stop.changed() => {}
            }
        }
    }
}

fn until(due: Timestamp, now: Timestamp) -> Duration {
    let micros = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_micros(micros).min(SLEEP_MAX)
}

fn answer(partition: &Partition, question: Question) {
    // Whoever asked may have gone: then nobody wants the answer.
    match question {
        Question::Explain { user, tag, answer } => {
            let _ = answer.send(partition.machine.explain(user, &tag));
        }
        Question::Progress { segment, version, answer } => {
            let _ = answer.send(partition.segment_progress(segment, version));
        }
        Question::Figures { answer } => {
            let _ = answer.send(PartitionFigures::of(partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_far_a_deadline_the_clock_is_looked_at_soon() {
        assert_eq!(until(Timestamp(5_000), Timestamp(2_000)), Duration::from_millis(3));
        assert_eq!(until(Timestamp(0), Timestamp(2_000)), Duration::ZERO);
        assert_eq!(until(Timestamp::MAX, Timestamp(2_000)), SLEEP_MAX);
        assert!(SLEEP_MAX <= Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_panic_is_an_error_that_says_what_it_said() {
        let outcome: Result<(), _> = caught(async { panic!("no. {}", 7) }).await;
        assert!(matches!(outcome, Err(WorkerError::Panicked(message)) if message == "no. 7"));
        assert!(matches!(caught(async { Ok(3) }).await, Ok(3)));
    }
}

//! The archiver: every accepted event into the warehouse, in batches, exactly once.
//!
//! The log is its queue. The archive position moves in the transaction that writes the rows. The
//! archiver leaves out what the worker left out ([`LeftOut`]). Where the worker has
//! not decided, it finds them as the machine does, with [`RecentIds`] over what the warehouse has
//! of a user.
//!
//! A partition archives the events that it applies, in the order in which it applies them: later
//! events of an absorbed user come as `forward`, and a `transfer` waits until the absorbed user's
//! partition is archived up to the merge. So archiver and machine find the same duplicates, and the
//! archive of a partition has everything its users did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ports::log::{Batch, Log, LogError, Record, Topic, partition_of};
use ports::records::UserRecord;
use ports::records::decode::{Delivery, Input, decode_to_archive};
use ports::records::json_text::trees;
use ports::warehouse::{ArchiveBatch, ArchiveRow, Departure, TraitsRow, UserRow, Warehouse, WarehouseError};
use segment_engine::event::Position;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::machine::{EventKey, RecentIds};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::left_out::LeftOut;
use crate::settings::Settings;

/// The longest wait for the worker's decisions. It may wait for this archiver.
const DECISION_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why the archiver stopped. It loses nothing: it goes on from the archive position.
#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The warehouse failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// What one step of an archiver did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A batch is in the warehouse.
    Archived,
    /// There was nothing to archive.
    CaughtUp,
    /// The next record waits for another partition's archiver.
    Blocked,
}

/// How an archiver and the rest of the service signal each other.
pub struct Signals {
    /// This archiver's position.
    pub moved: watch::Sender<u64>,
    /// Fires when any partition's archiver moves.
    pub any_moved: watch::Sender<()>,
    /// The offset up to which somebody waits: below it, the archiver does not linger.
    pub flush: watch::Receiver<u64>,
    /// From when the intervals count at whose ends archivers begin batches: at the same time, so that
    /// the warehouse writes those of all partitions together.
    pub began: Instant,
}

/// Returns the end of the present interval.
fn interval_end(began: Instant, interval: Duration) -> Instant {
    let passed = began.elapsed().as_nanos() / interval.as_nanos().max(1);
    began + interval * u32::try_from(passed + 1).unwrap_or(u32::MAX)
}

/// Makes an archiver not linger below this offset.
pub(crate) fn flush_until(flush: &watch::Sender<u64>, offset: u64) {
    flush.send_if_modified(|wanted| std::mem::replace(wanted, offset.max(*wanted)) < offset);
}

/// Archives one partition.
pub struct Archiver {
    partition: PartitionId,
    log: Arc<dyn Log>,
    warehouse: Arc<dyn Warehouse>,
    left_out: LeftOut,
    settings: Settings,
    position: u64,
}

impl Archiver {
    /// Starts at the warehouse's position.
    pub async fn open(
        partition: PartitionId,
        log: Arc<dyn Log>,
        warehouse: Arc<dyn Warehouse>,
        left_out: LeftOut,
        settings: Settings,
    ) -> Result<Self, ArchiverError> {
        let position = warehouse.archive_position(partition).await?;
        let (first, _) = log.bounds(Topic::Events, partition).await?;
        if position < first {
            tracing::error!(partition = partition.0, position, first, "events left the log before they were archived");
        }
        Ok(Self { partition, log, warehouse, left_out, settings, position })
    }

    /// The next offset to archive.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Archives one batch.
    pub async fn step(&mut self) -> Result<Step, ArchiverError> {
        let batch = self.read().await?;
        self.archive(batch).await
    }

    async fn read(&self) -> Result<Batch, LogError> {
        let share = (self.settings.archive_bytes_max / self.log.partitions() as usize).max(1);
        self.log.read(Topic::Events, self.partition, self.position, share).await
    }

    async fn archive(&mut self, batch: Batch) -> Result<Step, ArchiverError> {
        let decided = self.left_out.among(self.partition, self.position..batch.next_offset);
        let (inputs, to_offset) = self.inputs(&batch, decided.as_ref()).await?;
        if to_offset == self.position {
            return Ok(if batch.next_offset == self.position { Step::CaughtUp } else { Step::Blocked });
        }
        // Its rows may wait for a while to be written.
        drop(batch);
        let mut known = self.known(&inputs, decided.is_some()).await?;
        let rows = inputs.into_iter().filter_map(|(offset, input)| Some((offset, known.row(input)?))).collect();
        let batch = ArchiveBatch { partition: self.partition, from_offset: self.position, to_offset, rows };
        match self.warehouse.archive(batch).await {
            Ok(()) => self.position = to_offset,
            // Another archiver, or an earlier call of ours whose answer was lost, wrote it.
            Err(WarehouseError::Moved { found, .. }) => self.position = found,
            Err(error) => {
                self.position = self.warehouse.archive_position(self.partition).await?;
                return Err(error.into());
            }
        }
        self.left_out.forget(self.partition, self.position);
        Ok(Step::Archived)
    }

    /// Returns what of a batch can be archived together, and the offset after it: of what the
    /// worker decided no more than that, and without the events that it left out. A transfer ends it, since it
    /// makes the absorbed user's event ids the survivor's. It waits until that user is archived,
    /// and so does all that follows.
    async fn inputs(
        &self,
        batch: &Batch,
        decided: Option<&(u64, Vec<u64>)>,
    ) -> Result<(Vec<(u64, Arrival)>, u64), ArchiverError> {
        let mut inputs = Vec::new();
        let (end, left_out) = decided.map_or((u64::MAX, &[][..]), |(end, left_out)| (*end, left_out));
        for record in batch.records.iter().take_while(|record| record.offset < end) {
            let Some(arrival) = self.decode(record) else { continue };
            if let Input::User(UserRecord::Transfer { absorbed, below, .. }) = &arrival.input {
                let from = partition_of(*absorbed, self.log.partitions());
                if from != self.partition && self.warehouse.archive_position(from).await? < *below {
                    return Ok((inputs, record.offset));
                }
                inputs.push((record.offset, arrival));
                return Ok((inputs, record.offset + 1));
            }
            let is_event = matches!(arrival.input, Input::Event(_));
            if !is_event || left_out.binary_search(&record.offset).is_err() {
                inputs.push((record.offset, arrival));
            }
        }
        Ok((inputs, batch.next_offset.min(end)))
    }

    /// Archives until cancelled; cancel-safe.
    pub async fn run(&mut self, signals: Signals) -> Result<(), ArchiverError> {
        let Signals { moved, any_moved, mut flush, began } = signals;
        let mut others = any_moved.subscribe();
        let linger = Duration::from_millis(self.settings.archive_linger_ms);
        moved.send_replace(self.position);
        let mut step = Step::CaughtUp;
        // It did not decide in time. The archiver does not wait again until it has caught up.
        let mut worker_is_behind = false;
        loop {
            if step == Step::Blocked {
                let _ = tokio::time::timeout(linger, others.changed()).await;
            } else {
                self.log.wait_for(Topic::Events, self.partition, self.position).await;
                let position = self.position;
                let wanted = flush.wait_for(|wanted| *wanted > position);
                let _ = tokio::time::timeout_at(interval_end(began, linger), wanted).await;
            }
            loop {
                // Before the step, so that what others archive during it ends the wait.
                others.mark_unchanged();
                let (_, end) = self.log.bounds(Topic::Events, self.partition).await?;
                let batch = self.read().await?;
                worker_is_behind &= self.left_out.end(self.partition) <= self.position;
                if !batch.records.is_empty() && !worker_is_behind {
                    let decided = self.left_out.wait(self.partition, self.position);
                    worker_is_behind = tokio::time::timeout(DECISION_WAIT_MAX, decided).await.is_err();
                }
                step = self.archive(batch).await?;
                if step != Step::Archived {
                    break;
                }
                moved.send_replace(self.position);
                any_moved.send_replace(());
                if self.position >= end {
                    // What came meanwhile waits for more.
                    break;
                }
            }
        }
    }

    /// Returns `None` for a record that has nothing to archive. The worker reports bad records.
    fn decode(&self, record: &Record) -> Option<Arrival> {
        let position = Position { partition: self.partition, offset: record.offset };
        match decode_to_archive(&record.value, position, record.appended_at).ok()? {
            Input::Event(delivery) => {
                Some(Arrival { user: delivery.event.user_id, position, input: Input::Event(delivery) })
            }
            Input::User(UserRecord::Forward { user_id: user, partition, offset, appended_at, record }) => {
                let position = Position { partition, offset };
                let input = decode_to_archive(record.get().as_bytes(), position, appended_at).ok()?;
                let follows = matches!(input, Input::Event(_) | Input::User(UserRecord::Traits { .. }));
                follows.then_some(Arrival { user, position, input })
            }
            Input::User(input) => Some(Arrival { user: input.user_id(), position, input: Input::User(input) }),
            Input::Segment(_) => None,
        }
    }

    /// Reads what the warehouse knows about the users of a batch, and about its event ids. Of events
    /// it need not ask if the worker has decided about them. What else comes for a user is rare, and
    /// comes again when a lost end of the log is restored: then the warehouse knows more than the
    /// worker.
    async fn known(&self, inputs: &[(u64, Arrival)], is_decided: bool) -> Result<Known, ArchiverError> {
        let arrivals = inputs.iter().map(|(_, arrival)| arrival);
        let is_asked = |arrival: &&Arrival| !is_decided || !matches!(arrival.input, Input::Event(_));
        let mut users: Vec<UserId> = arrivals.clone().filter(is_asked).map(|arrival| arrival.user).collect();
        users.sort_unstable();
        users.dedup();
        let departures = if users.is_empty() { Vec::new() } else { self.warehouse.departures(&users).await? };
        let departed = users.iter().copied().zip(departures);
        let departed = departed.filter_map(|(user, departure)| Some((user, departure?))).collect();
        let remembered = self.settings.machine.remembered_micros;
        if is_decided {
            return Ok(Known { departed, recent: None, remembered });
        }
        let mut asked = Vec::new();
        for arrival in arrivals {
            if let Input::Event(Delivery { event, .. }) = &arrival.input
                && let Some(id) = &event.event_id
            {
                asked.push((arrival.user, id.to_string()));
            }
        }
        let mut recent: HashMap<UserId, RecentIds> = HashMap::new();
        if !asked.is_empty() {
            let received = self.warehouse.received(&asked).await?;
            for ((user, id), receipt) in asked.iter().zip(received) {
                if let Some(receipt) = receipt {
                    recent.entry(*user).or_default().note(id, receipt, remembered);
                }
            }
        }
        Ok(Known { departed, recent: Some(recent), remembered })
    }
}

/// An input of the partition. Forwarded ones are unwrapped.
struct Arrival {
    /// The user it counts for in this partition.
    user: UserId,
    /// Where it first stood in the log.
    position: Position,
    input: Input<Box<str>>,
}

/// What decides which rows a batch gets; [`Known::row`] updates it.
struct Known {
    departed: HashMap<UserId, Departure>,
    /// `None` if no input is a duplicate.
    recent: Option<HashMap<UserId, RecentIds>>,
    remembered: i64,
}

impl Known {
    fn row(&mut self, Arrival { user, position, input }: Arrival) -> Option<ArchiveRow> {
        let departure = self.departed.get(&user).copied();
        match input {
            // The survivor is deleted, so nobody is left to take the merged user's events.
            Input::User(UserRecord::Transfer { absorbed, .. }) if departure == Some(Departure::Deleted) => {
                Some(ArchiveRow::DeleteUser(absorbed))
            }
            // A merged user's rows go when the survivor is deleted. A deleted user has none left.
            Input::User(UserRecord::Delete { .. }) if departure.is_some() => None,
            Input::User(UserRecord::Delete { .. }) => {
                self.departed.insert(user, Departure::Deleted);
                Some(ArchiveRow::DeleteUser(user))
            }
            // Forwarded and archived there, dropped there, or refused.
            _ if departure.is_some() => None,
            Input::Event(Delivery { event, dedupe_forever }) => {
                if let (Some(id), Some(recent)) = (&event.event_id, &mut self.recent) {
                    let ids = recent.entry(user).or_default();
                    if !ids.accept(EventKey { id, dedupe_forever }, event.processed_at, self.remembered) {
                        return None;
                    }
                }
                Some(ArchiveRow::Event { event: Box::new(event), dedupe_forever })
            }
            Input::User(UserRecord::User { user_id: id, client_ref_id, email, name, created_at }) => {
                Some(ArchiveRow::User(UserRow { id, client_ref_id, email, name, created_at }))
            }
            Input::User(UserRecord::Traits { user_id: user, traits, created_at }) => {
                // The worker reports traits that it cannot read.
                Some(ArchiveRow::Traits(TraitsRow { user, traits: trees(&traits).ok()?, created_at, position }))
            }
            Input::User(UserRecord::Merge { .. }) => {
                self.departed.insert(user, Departure::Merged);
                Some(ArchiveRow::MergeUser(user))
            }
            Input::User(UserRecord::Transfer { absorbed, .. }) => Some(ArchiveRow::Alias { absorbed, survivor: user }),
            // The warehouse has no manual lists; forwarded records were unwrapped.
            Input::User(UserRecord::Manual { .. } | UserRecord::Restored { .. } | UserRecord::Forward { .. })
            | Input::Segment(_) => None,
        }
    }
}

//! The archiver: every accepted event into the warehouse, in batches, exactly once.
//!
//! It reads the log, which is its queue; the archive position moves in the transaction that writes the rows. What is a
//! duplicate it decides as the machine does, by [`RecentIds`], over what the warehouse has of a user.

use std::collections::HashMap;
use std::sync::Arc;

use ports::log::{Log, LogError, Record, Topic};
use ports::records::UserRecord;
use ports::records::decode::{Delivery, Input, decode_input};
use ports::warehouse::{ArchiveBatch, ArchiveRow, TraitsRow, UserRow, Warehouse, WarehouseError};
use segment_engine::event::{Position, UserId};
use segment_engine::machine::{EventKey, RecentIds};

use crate::settings::Settings;

/// Why the archiver stopped. Nothing is lost: it goes on from the archive position.
#[derive(Debug, thiserror::Error)]
pub enum ArchiverError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The warehouse failed.
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
}

/// Archives one partition.
pub struct Archiver {
    partition: u32,
    log: Arc<dyn Log>,
    warehouse: Arc<dyn Warehouse>,
    settings: Settings,
    position: u64,
}

impl Archiver {
    /// Starts where the warehouse stands.
    pub async fn open(
        partition: u32,
        log: Arc<dyn Log>,
        warehouse: Arc<dyn Warehouse>,
        settings: Settings,
    ) -> Result<Self, ArchiverError> {
        let position = warehouse.archive_position(partition).await?;
        Ok(Self { partition, log, warehouse, settings, position })
    }

    /// The next offset to archive.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Archives one batch. Answers whether there was anything.
    pub async fn step(&mut self) -> Result<bool, ArchiverError> {
        let batch =
            self.log.read(Topic::Events, self.partition, self.position, self.settings.archive_bytes_max).await?;
        if batch.records.is_empty() {
            return Ok(false);
        }
        let inputs = batch.records.iter().filter_map(|record| self.decode(record)).collect::<Vec<_>>();
        let mut recent = self.recent_ids(&inputs).await?;
        let remembered = self.settings.machine.remembered_micros;
        let rows = inputs.into_iter().filter_map(|input| row(input, &mut recent, remembered)).collect();
        let batch =
            ArchiveBatch { partition: self.partition, from_offset: self.position, to_offset: batch.next_offset, rows };
        let to_offset = batch.to_offset;
        match self.warehouse.archive(batch).await {
            Ok(()) => self.position = to_offset,
            // Another archiver, or an earlier call of ours whose answer was lost, wrote it.
            Err(WarehouseError::Moved { found, .. }) => self.position = found,
            Err(error) => {
                self.position = self.warehouse.archive_position(self.partition).await?;
                return Err(error.into());
            }
        }
        Ok(true)
    }

    /// Archives until cancelled; cancel-safe.
    pub async fn run(&mut self, moved: &tokio::sync::watch::Sender<u64>) -> Result<(), ArchiverError> {
        let linger = std::time::Duration::from_millis(self.settings.archive_linger_ms);
        loop {
            self.log.wait_for(Topic::Events, self.partition, self.position).await;
            tokio::time::sleep(linger).await;
            while self.step().await? {
                moved.send_replace(self.position);
            }
        }
    }

    /// What cannot be read was told by the worker; there is nothing to archive of it.
    fn decode(&self, record: &Record) -> Option<(Position, Input)> {
        let position = Position { partition: self.partition, offset: record.offset };
        Some((position, decode_input(&record.value, position, record.appended_at).ok()?))
    }

    /// What the warehouse knows of the event ids of a batch.
    async fn recent_ids(&self, inputs: &[(Position, Input)]) -> Result<HashMap<UserId, RecentIds>, ArchiverError> {
        let mut asked = Vec::new();
        let mut once = Vec::new();
        for (_, input) in inputs {
            if let Input::Event(Delivery { event, once: is_once }) = input
                && let Some(id) = &event.event_id
            {
                asked.push((event.user_id, id.to_string()));
                once.push(*is_once);
            }
        }
        let mut recent: HashMap<UserId, RecentIds> = HashMap::new();
        if asked.is_empty() {
            return Ok(recent);
        }
        let received = self.warehouse.received(&asked).await?;
        for (((user, id), once), received) in asked.iter().zip(once).zip(received) {
            if let Some(received) = received {
                let ids = recent.entry(*user).or_default();
                ids.note(EventKey { id, once }, received, self.settings.machine.remembered_micros);
            }
        }
        Ok(recent)
    }
}

fn row(
    (position, input): (Position, Input),
    recent: &mut HashMap<UserId, RecentIds>,
    remembered: i64,
) -> Option<ArchiveRow> {
    match input {
        Input::Event(Delivery { event, once }) => {
            if let Some(id) = &event.event_id {
                let ids = recent.entry(event.user_id).or_default();
                if !ids.accept(EventKey { id, once }, event.processed_at, remembered) {
                    return None;
                }
            }
            Some(ArchiveRow::Event(Box::new(event)))
        }
        Input::User(UserRecord::User { user_id: id, client_ref_id, email, name, created_at }) => {
            Some(ArchiveRow::User(UserRow { id, client_ref_id, email, name, created_at }))
        }
        Input::User(UserRecord::Traits { user_id: user, traits, created_at }) => {
            Some(ArchiveRow::Traits(TraitsRow { user, traits, created_at, position }))
        }
        Input::User(UserRecord::Merge { user_id: absorbed, survivor }) => {
            Some(ArchiveRow::Alias { absorbed, survivor })
        }
        Input::User(UserRecord::Delete { user_id }) => Some(ArchiveRow::DeleteUser(user_id)),
        // Lists by hand are the engine's alone; transfers and forwards stand in the log where they were first received.
        Input::User(UserRecord::Manual { .. } | UserRecord::Transfer { .. } | UserRecord::Forward { .. })
        | Input::Segment(_) => None,
    }
}

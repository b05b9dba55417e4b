//! The history of new segments: read from the warehouse in slices while the partition goes on.

use ports::log::{NewRecord, Topic};
use ports::records::SegmentRecord;
use segment_engine::event::UserId;
use segment_engine::machine::StoreId;

use crate::partition::{Partition, WorkerError};

/// The job that is running, if any. It is not saved: after a restart the same history is read again.
#[derive(Debug, Default)]
pub struct Backfill {
    job: Option<Job>,
    /// Versions whose `segment_ready` has been appended but not yet consumed.
    announced: Vec<(i64, u64)>,
}

#[derive(Debug)]
struct Job {
    /// What is being filled, each below its fence.
    stores: Vec<(StoreId, u64)>,
    /// Users still to read.
    users: Vec<UserId>,
    users_total: usize,
}

impl Backfill {
    /// How much of the running job is done, from 0 to 1.
    pub fn progress(&self) -> Option<f64> {
        let job = self.job.as_ref()?;
        Some(1.0 - job.users.len() as f64 / job.users_total.max(1) as f64)
    }
}

impl Partition {
    /// One slice of work for the segments that wait for history. Answers whether there is more to do at once; `false` also while
    /// the archiver has not come as far as the history reaches.
    pub async fn backfill_step(&mut self) -> Result<bool, WorkerError> {
        if self.backfill.job.is_none() {
            let stores = self.machine.incomplete();
            if stores.is_empty() {
                // What reads only stores that a backfill completed for others is ready too.
                self.announce().await?;
                return Ok(false);
            }
            if !self.is_archived(&stores).await? {
                return Ok(false);
            }
            let users: Vec<UserId> = self.machine.user_ids().collect();
            self.backfill.job = Some(Job { stores, users_total: users.len(), users });
        }
        let Some(mut job) = self.backfill.job.take() else { return Ok(false) };
        let rest = job.users.len().saturating_sub(self.settings.backfill_users_per_step);
        let slice = job.users.split_off(rest);
        self.read_history(&job.stores, &slice).await?;
        if !job.users.is_empty() {
            self.backfill.job = Some(job);
            return Ok(true);
        }
        for (store, _) in job.stores {
            self.machine.complete(store);
        }
        self.announce().await?;
        Ok(true)
    }

    /// How far the newest version of a segment is: 1 when it is in force here; `None` if the segment is unknown here.
    pub fn segment_progress(&self, segment: i64) -> Option<f64> {
        if self.machine.is_pending(segment)? { Some(self.backfill.progress().unwrap_or(0.0)) } else { Some(1.0) }
    }

    /// Whether the warehouse has everything below the fences.
    async fn is_archived(&self, stores: &[(StoreId, u64)]) -> Result<bool, WorkerError> {
        let fence = stores.iter().map(|(_, fence)| *fence).max().unwrap_or(0);
        Ok(self.ports.warehouse.archive_position(self.id).await? >= fence)
    }

    async fn read_history(&mut self, stores: &[(StoreId, u64)], users: &[UserId]) -> Result<(), WorkerError> {
        // Events that came with merged users stand in other partitions; all of theirs are history.
        let mut fences = vec![u64::MAX; self.ports.log.partitions() as usize];
        fences[self.id as usize] = stores.iter().map(|(_, fence)| *fence).max().unwrap_or(0);
        let events = self.ports.warehouse.history(users, &fences).await?;
        for (user, event) in &events {
            for (store, fence) in stores {
                if event.position.partition != self.id || event.position.offset < *fence {
                    self.machine.add_history(*store, *user, event);
                }
            }
        }
        Ok(())
    }

    /// Says in the log that the segments whose history is complete take effect: where that record stands, they do.
    async fn announce(&mut self) -> Result<(), WorkerError> {
        let ready = self.machine.ready();
        self.backfill.announced.retain(|announced| ready.contains(announced));
        let new: Vec<_> = ready.into_iter().filter(|version| !self.backfill.announced.contains(version)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let record = |(id, version): &(i64, u64)| NewRecord {
            topic: Topic::Events,
            partition: self.id,
            key: format!("segment:{id}"),
            value: serde_json::to_vec(&SegmentRecord::SegmentReady { id: *id, version: *version })
                .expect("segment records are plain data"),
        };
        self.ports.log.append(new.iter().map(record).collect()).await?;
        self.backfill.announced.extend(new);
        Ok(())
    }

    /// Fills every incomplete store before going on: when the log says that a version took effect here and a crash lost what had
    /// been read for it. A job that is running is finished, not begun again: what it has read counts already.
    pub(crate) async fn backfill_now(&mut self) -> Result<(), WorkerError> {
        while !self.machine.incomplete().is_empty() {
            if !self.backfill_step().await? {
                tracing::info!(partition = self.id, "waiting for the archiver: a new segment needs the history");
                tokio::time::sleep(std::time::Duration::from_millis(self.settings.archive_linger_ms)).await;
            }
        }
        Ok(())
    }

    /// For stores that the absorbed user's partition did not have: its events, from the warehouse.
    pub(crate) async fn read_history_of_absorbed(
        &mut self,
        survivor: UserId,
        absorbed: UserId,
        missing: &[StoreId],
    ) -> Result<(), WorkerError> {
        let incomplete: Vec<StoreId> = self.machine.incomplete().into_iter().map(|(store, _)| store).collect();
        // The incomplete ones read their history later, the absorbed user's with it.
        let stores: Vec<StoreId> = missing.iter().filter(|store| !incomplete.contains(store)).copied().collect();
        if stores.is_empty() {
            return Ok(());
        }
        let fences = vec![u64::MAX; self.ports.log.partitions() as usize];
        for (_, event) in self.ports.warehouse.history(&[absorbed], &fences).await? {
            for store in &stores {
                self.machine.add_history(*store, survivor, &event);
            }
        }
        Ok(())
    }
}

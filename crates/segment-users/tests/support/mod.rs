//! Partitions on in-memory ports, with a clock that the test sets.
#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part; a failed step is a failed test")]

use std::sync::Arc;

use ports::clock::ManualClock;
use ports::log::{NewRecord, Topic, partition_of};
use ports::records::{ConfigRecord, Notification};
use ports_testkit::memory::{MemoryCheckpoints, MemoryLog, MemoryWarehouse};
use segment_engine::ids::{PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::time::Timestamp;
use segment_users::archiver::{Archiver, Step};
use segment_users::definitions;
use segment_users::left_out::LeftOut;
use segment_users::partition::{Background, Partition, Ports};
use segment_users::plans::Plans;
use segment_users::settings::Settings;
use serde_json::{Value, json};

pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const PARTITIONS: u32 = 2;

/// Returns in-memory ports and their clock, which is at 1,000 seconds.
pub(crate) fn memory(partitions: u32) -> (Arc<ManualClock>, Ports) {
    let clock = Arc::new(ManualClock::at(Timestamp(1_000 * SECOND)));
    let ports = Ports {
        log: Arc::new(MemoryLog::new(partitions, clock.clone())),
        checkpoints: Arc::new(MemoryCheckpoints::default()),
        warehouse: Arc::new(MemoryWarehouse::default()),
        clock: clock.clone(),
        plans: Plans::default(),
        left_out: LeftOut::default(),
        background: Background::default(),
    };
    (clock, ports)
}

/// Partitions of a log. They work only when the test calls them.
pub(crate) struct World {
    pub clock: Arc<ManualClock>,
    pub ports: Ports,
    pub partitions: Vec<Partition>,
    /// Of the partitions, from the next restart on.
    pub settings: Settings,
}

impl World {
    pub(crate) async fn new() -> Self {
        let (clock, ports) = memory(PARTITIONS);
        let mut world = Self { clock, ports, partitions: Vec::new(), settings: Settings::default() };
        world.restart().await;
        world
    }

    /// Restarts all workers as after a crash: only what is stored survives.
    pub(crate) async fn restart(&mut self) {
        self.partitions.clear();
        for id in PartitionId::all(PARTITIONS) {
            self.partitions.push(Partition::open(id, self.ports.clone(), self.settings).await.unwrap());
        }
    }

    /// Lets everything work until nothing is left to do at the clock's present instant.
    pub(crate) async fn run(&mut self) {
        definitions::relay(&self.ports.log).await.unwrap();
        loop {
            let mut busy = false;
            for at in 0..self.partitions.len() {
                self.archive().await;
                let turn = self.partitions[at].turn().await.unwrap();
                busy |= turn.more || turn.notifications > 0;
                self.archive().await;
                busy |= self.partitions[at].backfill_step().await.unwrap();
            }
            if !busy {
                return;
            }
        }
    }

    /// Archives everything. Called before each turn, since a turn may wait for the archive.
    pub(crate) async fn archive(&self) {
        let mut busy = true;
        while busy {
            busy = false;
            for id in PartitionId::all(PARTITIONS) {
                let Ports { log, warehouse, left_out, .. } = self.ports.clone();
                let mut archiver = Archiver::open(id, log, warehouse, left_out, Settings::default()).await.unwrap();
                busy |= archiver.step().await.unwrap() == Step::Archived;
            }
        }
    }

    pub(crate) async fn run_until(&mut self, at: i64) {
        self.clock.set(Timestamp(at));
        self.run().await;
    }

    pub(crate) async fn segment(&mut self, id: i64, tag: &str, version: u64, clause: &str) {
        let record = ConfigRecord::Segment {
            id: SegmentId(id),
            tag: tag.to_owned(),
            version: SegmentVersion(version),
            where_statement: clause.to_owned(),
            manual: false,
        };
        self.append(Topic::Config, PartitionId::ONLY, &format!("{id}"), &serde_json::to_value(record).unwrap()).await;
        self.run().await;
    }

    pub(crate) async fn append(&self, topic: Topic, partition: PartitionId, key: &str, value: &Value) {
        let value = serde_json::to_vec(value).unwrap();
        let record = NewRecord { topic, partition, key: key.to_owned(), value };
        self.ports.log.append(vec![record]).await.unwrap();
    }

    pub(crate) async fn user(&self, user: i64, value: Value) {
        self.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &user.to_string(), &value).await;
    }

    pub(crate) async fn event(&mut self, user: i64, activity: &str, more: Value) {
        let mut event = json!({
            "user_id": user, "client_ref_id": format!("client-{user}"), "id_type": "cookie",
            "payload": {"activity_type": activity}, "received_at": "2026-01-01T00:00:00.000000Z",
        });
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.user(user, event).await;
        self.run().await;
    }

    pub(crate) async fn notifications(&self) -> Vec<Notification> {
        let mut all = Vec::new();
        for partition in PartitionId::all(PARTITIONS) {
            let batch = self.ports.log.read(Topic::Notifications, partition, 0, usize::MAX).await.unwrap();
            all.extend(batch.records.iter().map(|record| serde_json::from_slice(&record.value).unwrap()));
        }
        all
    }

    /// Returns `user:sequence cause +entered -left @micros` for each notification.
    pub(crate) async fn transitions(&self) -> Vec<String> {
        let line = |notification: &Notification| {
            let Notification { id, cause, in_segments, out_segments, effective_at, .. } = notification;
            let cause = serde_json::to_value(cause).unwrap();
            let at = ports::records::instant::parse(effective_at).unwrap().0;
            let ids = |segments: &[SegmentId]| segments.iter().map(|segment| segment.0).collect::<Vec<_>>();
            let (entered, left) = (ids(in_segments), ids(out_segments));
            format!("{id} {} +{entered:?} -{left:?} @{at}", cause.as_str().unwrap())
        };
        self.notifications().await.iter().map(line).collect()
    }
}

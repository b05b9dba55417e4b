//! Runs workers, archivers and backfills in random order, while users merge, segments change, and
//! processes crash, lose checkpoints and trim the log. In the end, memberships must be those of a
//! machine that saw only the archived events, and the notifications must have no gaps.
//!
//! `USS_SIMULATION_SEED` repeats one run, `USS_SIMULATION_RUNS` sets how many there are.
#![expect(clippy::unwrap_used)]

mod check;
mod inputs;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use inputs::Saved;
use metrics_exporter_prometheus::PrometheusBuilder;
use ports::checkpoints::{Checkpoint, Generation};
use ports::clock::ManualClock;
use ports::log::{NewRecord, Topic, partition_of};
use ports_testkit::memory::MemoryConfigStore;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine;
use segment_engine::time::Timestamp;
use segment_users::archiver::{Archiver, Step};
use segment_users::definitions;
use segment_users::membership_writer::MembershipWriter;
use segment_users::partition::{Partition, Ports, WorkerError};
use segment_users::retention::Retention;
use segment_users::settings::Settings;
use serde_json::{Value, json};
use support::SECOND;

const PARTITIONS: u32 = 3;
const USERS: i64 = 12;
const STEPS: u32 = 260;

/// Small batches, so that a turn often ends between records that belong together.
fn settings() -> Settings {
    Settings {
        batch_bytes_max: 400,
        archive_bytes_max: 600 * PARTITIONS as usize,
        archive_linger_ms: 0,
        backfill_users_per_read: 2,
        backfill_events_per_step: 3,
        followers_per_turn_max: 2,
        history_bytes_max: 400,
        checkpoint_interval_micros: 0,
        checkpoint_users_per_step: 2,
        retention_micros: Some(30 * SECOND),
        machine: machine::Settings { remembered_micros: 20 * SECOND, ..machine::Settings::default() },
        ..Settings::default()
    }
}

struct World {
    random: fastrand::Rng,
    clock: Arc<ManualClock>,
    ports: Ports,
    partitions: Vec<Partition>,
    /// From each user that was not deleted to its survivor or itself, as the config store would
    /// decide.
    survivors: BTreeMap<i64, i64>,
    /// Each segment as it was saved last.
    segments: BTreeMap<SegmentId, Saved>,
    version: u64,
    /// Manual segments as the config store has them: the list's version and the segments.
    lists: BTreeMap<i64, (u64, BTreeSet<SegmentId>)>,
    /// Traits sent: user id, plan, and since when.
    plans: Vec<(i64, &'static str, Timestamp)>,
    /// Events sent: user id and event id.
    sent: Vec<(i64, String)>,
    /// Stores the memberships. Notifications are not trimmed before they are stored here.
    store: Arc<MemoryConfigStore>,
    /// The offset up to which each partition's notifications were read.
    read: [u64; PARTITIONS as usize],
    /// How many starts went on with a history that was read in part.
    half_read: u64,
    /// The last sequence and the memberships of each user, from the notifications.
    emitted: BTreeMap<UserId, (u64, BTreeSet<SegmentId>)>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (clock, ports) = support::memory(PARTITIONS);
        let survivors = (1..=USERS).map(|user| (user, user)).collect();
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            clock,
            ports,
            partitions: Vec::new(),
            survivors,
            segments: BTreeMap::new(),
            version: 0,
            lists: BTreeMap::new(),
            plans: Vec::new(),
            sent: Vec::new(),
            store: Arc::default(),
            read: [0; PARTITIONS as usize],
            half_read: 0,
            emitted: BTreeMap::new(),
        };
        for user in 1..=USERS {
            let created_at = Timestamp(500 * SECOND);
            let record = json!({"type": "user", "user_id": user, "client_ref_id": format!("client-{user}"),
                "email": null, "name": null, "created_at": created_at});
            world.append(Topic::Events, partition_of(UserId(user), PARTITIONS), &record).await;
        }
        world.define_manual().await;
        for id in PartitionId::all(PARTITIONS) {
            world.partitions.push(Partition::open(id, world.ports.clone(), settings()).await.unwrap());
        }
        world
    }

    async fn append(&self, topic: Topic, partition: PartitionId, value: &Value) {
        let value = serde_json::to_vec(value).unwrap();
        let record = NewRecord { topic, partition, key: String::new(), value };
        self.ports.log.append(vec![record]).await.unwrap();
    }

    async fn step(&mut self) {
        match self.random.u64(..112) {
            0..30 => self.event().await,
            30..33 => self.merge().await,
            33 => self.delete().await,
            34..38 => self.change_segment().await,
            38..42 => self.clock.advance_micros(SECOND * (1 + self.random.u64(..9) as i64)),
            42..46 => drop(definitions::relay(&self.ports.log).await.unwrap()),
            46..66 => {
                let at = self.random.u32(..PARTITIONS) as usize;
                self.work(at, Work::Turn).await;
            }
            66..82 => {
                // One archiver lags behind the others.
                let partition = PartitionId(self.random.u32(..PARTITIONS));
                if partition.0 > 0 || self.random.u64(..6) == 0 {
                    self.archive(partition).await;
                }
            }
            82..90 => {
                let at = self.random.u32(..PARTITIONS) as usize;
                self.store_users(at).await;
                self.work(at, Work::Backfill).await;
            }
            90..91 => {
                let at = self.random.u32(..PARTITIONS) as usize;
                self.partitions[at].checkpoint().await.unwrap();
            }
            // Often ends in the middle of one.
            91..96 => {
                let at = self.random.u32(..PARTITIONS) as usize;
                for _ in 0..self.random.u32(1..4) {
                    self.partitions[at].checkpoint_if_due().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
            96..100 => self.crash().await,
            100..103 => self.trim().await,
            103 => self.damage().await,
            104..108 => self.set_list().await,
            _ => self.set_traits().await,
        }
    }

    /// Lets a checkpoint have most users that it lacks while history waits for it.
    async fn store_users(&mut self, at: usize) {
        for _ in 0..self.random.u32(..12) {
            if self.partitions[at].machine().is_saving_apart() {
                self.partitions[at].checkpoint_if_due().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    }

    async fn trim(&mut self) {
        self.consume().await;
        let writes = self.random.u32(..PARTITIONS + 1);
        for partition in PartitionId::all(writes) {
            let (log, store) = (self.ports.log.clone(), self.store.clone());
            MembershipWriter::open(partition, log, store).await.unwrap().step().await.unwrap();
        }
        Retention::new(self.ports.clone(), settings(), self.store.clone()).unwrap().trim_once().await;
    }

    /// Stops a partition's process, damages its checkpoint, and starts it again.
    async fn damage(&mut self) {
        let at = self.random.u32(..PARTITIONS) as usize;
        let partition = PartitionId(at as u32);
        if let Some(marker) = self.ports.checkpoints.marker(partition, Generation::Latest).await.unwrap() {
            let users = vec![(UserId(1), Some(b"no block".to_vec()))];
            let partition_state = b"no state".to_vec();
            let damaged = Checkpoint { partition, users, is_whole: false, partition_state, marker };
            self.ports.checkpoints.write(damaged).await.unwrap();
        }
        drop(self.partitions.remove(at));
        self.reopen(at).await;
    }

    async fn archive(&self, partition: PartitionId) -> bool {
        let Ports { log, warehouse, left_out, .. } = self.ports.clone();
        Archiver::open(partition, log, warehouse, left_out, settings()).await.unwrap().step().await.unwrap()
            == Step::Archived
    }

    async fn archive_all(&self) {
        let mut busy = true;
        while busy {
            busy = false;
            for partition in PartitionId::all(PARTITIONS) {
                busy |= self.archive(partition).await;
            }
        }
    }

    /// Lets a partition work, and returns whether it did something. If it has to wait for the
    /// archivers, they go on, or the process crashes there.
    async fn work(&mut self, at: usize, work: Work) -> bool {
        let crash_if_waiting = self.random.u64(..8) == 0;
        let mut partition = self.partitions.remove(at);
        let outcome = {
            let mut working = pin!(async {
                match work {
                    Work::Turn => partition.turn().await.map(|turn| turn.more || turn.notifications > 0),
                    Work::Backfill => partition.backfill_step().await,
                }
            });
            // The warehouse reads a batch of history in the time of a few polls. Only archivers take
            // longer.
            let polls = async {
                for _ in 0..8 {
                    tokio::task::yield_now().await;
                }
            };
            let first: Option<Result<bool, WorkerError>> = tokio::select! {
                biased;
                outcome = &mut working => Some(outcome),
                () = polls => None,
            };
            match first {
                Some(outcome) => Some(outcome.unwrap()),
                None if crash_if_waiting => None,
                None => {
                    self.archive_all().await;
                    Some(working.await.unwrap())
                }
            }
        };
        match outcome {
            Some(busy) => {
                self.partitions.insert(at, partition);
                busy
            }
            None => {
                drop(partition);
                self.reopen(at).await;
                true
            }
        }
    }

    async fn reopen(&mut self, at: usize) {
        self.archive_all().await;
        let partition = Partition::open(PartitionId(at as u32), self.ports.clone(), settings()).await.unwrap();
        let half_read = |segment: &SegmentId| (0.01..0.95).contains(&partition.newest_progress(*segment));
        self.half_read += u64::from(self.segments.keys().any(half_read));
        self.partitions.insert(at, partition);
    }

    /// Stops a partition's process and starts it again.
    async fn crash(&mut self) {
        let at = self.random.u32(..PARTITIONS) as usize;
        drop(self.partitions.remove(at));
        self.reopen(at).await;
    }

    async fn rest(&mut self) {
        definitions::relay(&self.ports.log).await.unwrap();
        for at in 0..PARTITIONS as usize {
            // History waits while one is being written.
            self.partitions[at].checkpoint().await.unwrap();
            if self.random.bool() {
                drop(self.partitions.remove(at));
                self.reopen(at).await;
            }
        }
        // A scan of the history works by itself while nothing else does.
        let mut idle_rounds = 0;
        while idle_rounds < 3 {
            idle_rounds += 1;
            for at in 0..PARTITIONS as usize {
                self.archive_all().await;
                let is_busy = self.work(at, Work::Turn).await;
                self.archive_all().await;
                if self.work(at, Work::Backfill).await || is_busy {
                    idle_rounds = 0;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Work {
    Turn,
    Backfill,
}

/// Returns how many starts went on with a history that was read in part.
async fn run(seed: u64) -> u64 {
    let mut world = World::new(seed).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.rest().await;
    world.check().await;
    world.half_read
}

/// Prints the seed if the run fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("USS_SIMULATION_SEED={}", self.0);
        }
    }
}

#[tokio::test]
async fn memberships_are_those_of_the_events_in_any_order() {
    let metrics = PrometheusBuilder::new().install_recorder().unwrap();
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let one = number("USS_SIMULATION_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("USS_SIMULATION_RUNS").unwrap_or(2_000),
    };
    let (runs, mut half_read) = (seeds.end - seeds.start, 0);
    for seed in seeds {
        let seed = Seed(seed);
        half_read += run(seed.0).await;
        assert!(!metrics.render().contains("uss_audit_disagreements_total"), "a recovery found a difference");
    }
    assert!(one.is_some() || half_read > runs / 100, "{half_read} starts in {runs} runs went on with a history");
}

//! Workers, archivers and backfills in every order that chance makes of them, while users merge, segments change and processes
//! crash, lose checkpoints and trim the log: at rest, memberships are those of a machine that saw the archived events alone, and were told without a gap.
//!
//! `USS_SIMULATION_SEED` repeats one run, `USS_SIMULATION_RUNS` sets how many there are.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use ports::checkpoints::{Checkpoint, Generation};
use ports::clock::ManualClock;
use ports::log::{NewRecord, Topic, partition_of};
use ports::memory::MemoryConfigStore;
use ports::records::{Cause, ConfigRecord, Notification};
use ports::warehouse::HistoryOf;
use segment_engine::event::{Event, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{self, Definition, Machine, Profile};
use segment_engine::time::Timestamp;
use segment_users::archiver::Archiver;
use segment_users::definitions;
use segment_users::memberships::MembershipWriter;
use segment_users::partition::{Partition, Ports, WorkerError};
use segment_users::retention::Retention;
use segment_users::settings::Settings;
use serde_json::{Value, json};
use support::SECOND;

const PARTITIONS: u32 = 3;
const USERS: i64 = 12;
const STEPS: u32 = 260;

const CLAUSES: [&str; 9] = [
    "count(*) >= 5",
    "count(*) FILTER (WHERE activity_type = 'a') >= 2",
    "count(*) FILTER (WHERE activity_type = 'b') >= 3",
    "count(*) FILTER (WHERE activity_type = 'a' AND created_at >= now() - INTERVAL '40 seconds') >= 2",
    "count(*) FILTER (WHERE created_at < now() - INTERVAL '25 seconds') BETWEEN 2 AND 6",
    "count(DISTINCT order_total) >= 4",
    "sum(order_total) FILTER (WHERE activity_type <> 'c') >= 20",
    "count(*) FILTER (WHERE user_id <= 4) >= 3",
    "last(activity_type) = 'b'",
];
const TAGS: i64 = 5;

/// Small enough that a turn is often cut between records that belong together.
fn settings() -> Settings {
    Settings {
        batch_bytes_max: 400,
        archive_bytes_max: 600,
        archive_linger_ms: 0,
        backfill_users_per_step: 2,
        checkpoint_interval_micros: 0,
        retention_micros: Some(30 * SECOND),
        ..Settings::default()
    }
}

/// SplitMix64: see `ports::log::partition_of`.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick(&mut self, bound: u32) -> u32 {
        self.below(u64::from(bound)) as u32
    }
}

#[derive(Clone)]
struct Saved {
    tag: String,
    version: u64,
    clause: &'static str,
}

struct World {
    random: Random,
    clock: Arc<ManualClock>,
    ports: Ports,
    partitions: Vec<Partition>,
    /// Who each user is now, as the config store would decide.
    survivors: BTreeMap<i64, i64>,
    /// Each segment as it was saved last.
    segments: BTreeMap<i64, Saved>,
    version: u64,
    /// Events sent: user id and event id.
    sent: Vec<(i64, String)>,
    /// Where memberships are stored: nothing is trimmed that is not there.
    store: Arc<MemoryConfigStore>,
    /// How far each partition's notifications have been read, and what they said: the last sequence, and the memberships.
    read: [u64; PARTITIONS as usize],
    told: BTreeMap<UserId, (u64, BTreeSet<i64>)>,
}

impl World {
    async fn new(seed: u64) -> Self {
        let (clock, ports) = support::memory(PARTITIONS);
        let survivors = (1..=USERS).map(|user| (user, user)).collect();
        let mut world = Self {
            random: Random(seed),
            clock,
            ports,
            partitions: Vec::new(),
            survivors,
            segments: BTreeMap::new(),
            version: 0,
            sent: Vec::new(),
            store: Arc::default(),
            read: [0; PARTITIONS as usize],
            told: BTreeMap::new(),
        };
        for user in 1..=USERS {
            let created_at = Timestamp(500 * SECOND);
            let record = json!({"type": "user", "user_id": user, "client_ref_id": format!("client-{user}"),
                "email": null, "name": null, "created_at": created_at});
            world.append(Topic::Events, partition_of(user, PARTITIONS), &record).await;
        }
        for id in 0..PARTITIONS {
            world.partitions.push(Partition::open(id, world.ports.clone(), settings()).await.unwrap());
        }
        world
    }

    async fn append(&self, topic: Topic, partition: u32, value: &Value) {
        let value = serde_json::to_vec(value).unwrap();
        let record = NewRecord { topic, partition, key: String::new(), value };
        self.ports.log.append(vec![record]).await.unwrap();
    }

    async fn step(&mut self) {
        match self.random.below(104) {
            0..30 => self.event().await,
            30..33 => self.merge().await,
            33 => self.delete().await,
            34..38 => self.change_segment().await,
            38..42 => self.clock.advance_micros(SECOND * (1 + self.random.below(9) as i64)),
            42..46 => drop(definitions::relay(&self.ports.log).await.unwrap()),
            46..66 => {
                let at = self.random.pick(PARTITIONS) as usize;
                self.drive(at, What::Turn).await;
            }
            66..82 => {
                // One archiver lags behind the others.
                let partition = self.random.pick(PARTITIONS);
                if partition > 0 || self.random.below(6) == 0 {
                    self.archive(partition).await;
                }
            }
            82..92 => {
                let at = self.random.pick(PARTITIONS) as usize;
                self.drive(at, What::Backfill).await;
            }
            92..96 => {
                let at = self.random.pick(PARTITIONS) as usize;
                self.partitions[at].checkpoint().await.unwrap();
            }
            96..100 => self.crash().await,
            100..103 => self.trim().await,
            _ => self.damage().await,
        }
    }

    async fn trim(&mut self) {
        self.consume().await;
        let writes = self.random.pick(PARTITIONS + 1);
        for partition in 0..writes {
            let (log, store) = (self.ports.log.clone(), self.store.clone());
            MembershipWriter::open(partition, log, store).await.unwrap().step().await.unwrap();
        }
        Retention::new(self.ports.clone(), settings(), self.store.clone()).unwrap().look().await;
    }

    /// A partition's process stops, and its checkpoint cannot be read when it starts again.
    async fn damage(&mut self) {
        let at = self.random.pick(PARTITIONS) as usize;
        let partition = at as u32;
        if let Some(marker) = self.ports.checkpoints.marker(partition, Generation::Latest).await.unwrap() {
            let users = vec![(UserId(1), Some(b"no block".to_vec()))];
            let partition_state = b"no state".to_vec();
            let damaged = Checkpoint { partition, users, partition_state, marker };
            self.ports.checkpoints.write(damaged).await.unwrap();
        }
        drop(self.partitions.remove(at));
        self.reopen(at).await;
    }

    /// An event of any id that ever was, as if resolved before the latest merges; or an earlier one again.
    async fn event(&mut self) {
        let again = !self.sent.is_empty() && self.random.below(6) == 0;
        let (user, event_id) = if again {
            let index = self.random.below(self.sent.len() as u64) as usize;
            self.sent[index].clone()
        } else {
            let user = 1 + self.random.below(USERS as u64) as i64;
            (user, format!("e-{}", self.sent.len()))
        };
        let activity = ["a", "b", "c"][self.random.pick(3) as usize];
        let event = json!({
            "user_id": user, "client_ref_id": format!("client-{user}"), "id_type": "cookie", "event_id": event_id,
            "payload": {"activity_type": activity, "order_total": self.random.below(8)}, "received_at": "",
            "once": self.random.below(5) == 0,
        });
        if !again {
            self.sent.push((user, event_id));
        }
        self.append(Topic::Events, partition_of(user, PARTITIONS), &event).await;
    }

    async fn merge(&mut self) {
        let alive: Vec<i64> = self.survivors.iter().filter(|(user, now)| user == now).map(|(user, _)| *user).collect();
        if alive.len() < 3 {
            return;
        }
        let absorbed = alive[self.random.below(alive.len() as u64) as usize];
        let survivor = alive[self.random.below(alive.len() as u64) as usize];
        if absorbed == survivor {
            return;
        }
        self.survivors.values_mut().filter(|now| **now == absorbed).for_each(|now| *now = survivor);
        let record = json!({"type": "merge", "user_id": absorbed, "survivor": survivor});
        self.append(Topic::Events, partition_of(absorbed, PARTITIONS), &record).await;
    }

    /// A user is deleted, and with it those it absorbed.
    async fn delete(&mut self) {
        let alive: BTreeSet<i64> = self.survivors.values().copied().collect();
        if alive.len() < 5 || self.random.below(3) > 0 {
            return;
        }
        let user = *alive.iter().nth(self.random.below(alive.len() as u64) as usize).unwrap();
        let one: Vec<i64> =
            self.survivors.iter().filter(|(_, now)| **now == user).map(|(absorbed, _)| *absorbed).collect();
        for user in one {
            self.survivors.remove(&user);
            let record = json!({"type": "delete", "user_id": user});
            self.append(Topic::Events, partition_of(user, PARTITIONS), &record).await;
        }
    }

    async fn change_segment(&mut self) {
        let id = 1 + self.random.below(TAGS as u64) as i64;
        let record = if self.segments.contains_key(&id) && self.random.below(4) == 0 {
            self.segments.remove(&id);
            ConfigRecord::SegmentDeleted { id }
        } else {
            self.version += 1;
            let clause = CLAUSES[self.random.pick(CLAUSES.len() as u32) as usize];
            let saved = Saved { tag: self.tag_for(id), version: self.version, clause };
            self.segments.insert(id, saved.clone());
            let Saved { tag, version, .. } = saved;
            ConfigRecord::Segment { id, tag, version, where_statement: clause.to_owned(), manual: false }
        };
        self.append(Topic::Config, 0, &serde_json::to_value(record).unwrap()).await;
    }

    /// The segment's own tag or, now and then, one that no other has at present, though another may just have given it up.
    fn tag_for(&mut self, id: i64) -> String {
        let own = self.segments.get(&id).map(|saved| saved.tag.clone());
        if let (Some(tag), 1..) = (own, self.random.below(3)) {
            return tag;
        }
        let others: Vec<String> =
            self.segments.iter().filter(|(other, _)| **other != id).map(|(_, saved)| saved.tag.clone()).collect();
        let free: Vec<String> = (0..=TAGS).map(|tag| format!("t{tag}")).filter(|tag| !others.contains(tag)).collect();
        free[self.random.below(free.len() as u64) as usize].clone()
    }

    async fn archive(&self, partition: u32) -> bool {
        let (log, warehouse) = (self.ports.log.clone(), self.ports.warehouse.clone());
        Archiver::open(partition, log, warehouse, settings()).await.unwrap().step().await.unwrap()
    }

    async fn archive_all(&self) {
        let mut busy = true;
        while busy {
            busy = false;
            for partition in 0..PARTITIONS {
                busy |= self.archive(partition).await;
            }
        }
    }

    /// Lets a partition work. Should it wait for the archivers, they go on meanwhile, or the process crashes there.
    async fn drive(&mut self, at: usize, what: What) -> bool {
        let crash_if_waiting = self.random.below(8) == 0;
        let mut partition = self.partitions.remove(at);
        let outcome = {
            let mut work = pin!(async {
                match what {
                    What::Turn => partition.turn().await.map(|turn| turn.more || turn.notifications > 0),
                    What::Backfill => partition.backfill_step().await,
                }
            });
            let first: Option<Result<bool, WorkerError>> = tokio::select! {
                biased;
                outcome = &mut work => Some(outcome),
                () = std::future::ready(()) => None,
            };
            match first {
                Some(outcome) => Some(outcome.unwrap()),
                None if crash_if_waiting => None,
                None => {
                    self.archive_all().await;
                    Some(work.await.unwrap())
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
        let partition = Partition::open(at as u32, self.ports.clone(), settings()).await.unwrap();
        self.partitions.insert(at, partition);
    }

    /// One partition's process stops at once.
    async fn crash(&mut self) {
        let at = self.random.pick(PARTITIONS) as usize;
        drop(self.partitions.remove(at));
        self.reopen(at).await;
    }

    async fn rest(&mut self) {
        definitions::relay(&self.ports.log).await.unwrap();
        let mut busy = true;
        while busy {
            busy = false;
            for at in 0..PARTITIONS as usize {
                self.archive_all().await;
                busy |= self.drive(at, What::Turn).await;
                self.archive_all().await;
                busy |= self.drive(at, What::Backfill).await;
            }
        }
    }

    /// What is archived, under the users of today.
    async fn archived(&self) -> Vec<Event> {
        let asked: Vec<_> = (1..=USERS).map(|user| HistoryOf { user: UserId(user), below: u64::MAX }).collect();
        let mut events = self.ports.warehouse.history(&asked).await.unwrap();
        let mut rows: Vec<&str> = events.iter().filter_map(|event| event.event_id.as_deref()).collect();
        rows.sort_unstable();
        let here = self.sent.iter().filter(|(user, _)| self.survivors.contains_key(user));
        let mut sent: Vec<&str> = here.map(|(_, id)| &**id).collect();
        sent.sort_unstable();
        assert_eq!(rows, sent, "each event of a user that was not deleted is archived once");
        events.sort_by_key(|event| event.processed_at);
        let today = |event: Event| Event { user_id: UserId(self.survivors[&event.user_id.0]), event_id: None, ..event };
        events.into_iter().map(today).collect()
    }

    /// A machine without a past: no merges, no backfills, no restarts.
    async fn plain(&self) -> Machine {
        let mut machine = Machine::new(machine::Settings::default());
        for (id, Saved { tag, version, clause }) in self.segments.clone() {
            let rule = compile(clause).unwrap().into();
            let definition = Definition { id, tag, version, where_statement: clause.to_owned(), rule };
            machine.define(definition, 0, Timestamp(0));
            machine.activate(id, version, Timestamp(0));
        }
        for user in self.survivors.values() {
            machine.profile(UserId(*user), None, Profile::default(), Timestamp(0));
        }
        for event in self.archived().await {
            machine.event(&event, false, event.processed_at);
        }
        machine.advance(self.partitions[0].machine().now(), usize::MAX);
        machine
    }

    /// Reads what has been told since.
    async fn consume(&mut self) {
        for (partition, read) in (0..).zip(&mut self.read) {
            let batch = self.ports.log.read(Topic::Notifications, partition, *read, usize::MAX).await.unwrap();
            *read = batch.next_offset;
            for record in &batch.records {
                let notification: Notification = serde_json::from_slice(&record.value).unwrap();
                assert_ne!(notification.cause, Cause::Repair, "{notification:?}");
                let (sequence, members) = self.told.entry(notification.user_id).or_default();
                assert_eq!(notification.sequence, *sequence + 1, "{notification:?}");
                *sequence = notification.sequence;
                for segment in &notification.out_segments {
                    assert!(members.remove(segment), "left without having entered: {notification:?}");
                }
                for segment in &notification.in_segments {
                    assert!(members.insert(*segment), "entered twice: {notification:?}");
                }
            }
        }
    }

    async fn check(&mut self) {
        self.consume().await;
        let plain = self.plain().await;
        for user in 1..=USERS {
            let id = UserId(user);
            let partition = &self.partitions[partition_of(user, PARTITIONS) as usize];
            let survivor = self.survivors.get(&user);
            let expected = if survivor == Some(&user) { plain.memberships(id) } else { Vec::new() };
            assert_eq!(partition.machine().memberships(id), expected, "user {user}, now {survivor:?}");
            let told: Vec<i64> = self.told.get(&id).into_iter().flat_map(|(_, members)| members).copied().collect();
            assert_eq!(told, expected, "told of user {user}");
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    Turn,
    Backfill,
}

async fn run(seed: u64) {
    let mut world = World::new(seed).await;
    for _ in 0..STEPS {
        world.step().await;
    }
    world.rest().await;
    world.check().await;
}

/// Says which seed to repeat when a run fails.
struct Seed(u64);

impl Drop for Seed {
    #[allow(clippy::print_stderr)]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("USS_SIMULATION_SEED={}", self.0);
        }
    }
}

#[tokio::test]
async fn in_any_order_the_memberships_are_those_of_the_events() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let seeds = match number("USS_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("USS_SIMULATION_RUNS").unwrap_or(2_000),
    };
    for seed in seeds {
        let seed = Seed(seed);
        run(seed.0).await;
    }
}

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ports::clock::ManualClock;
use ports::config_store::{NewSegment, NewUser};
use ports::log::{NewRecord, Topic};
use ports_testkit::memory::{MemoryCheckpoints, MemoryConfigStore, MemoryLog, MemoryWarehouse};
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::machine::{self, Cause, Machine, UserProfile};
use segment_engine::time::Timestamp;

use super::*;
use crate::left_out::LeftOut;
use crate::partition::{Background, Ports};
use crate::plans::Plans;
use crate::service::Service;
use crate::settings::Settings;

const NOW: Timestamp = Timestamp(1_767_225_600_000_000);
const USER: UserId = UserId(1);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service in memory.
struct World {
    store: Arc<dyn ConfigStore>,
    ports: Ports,
    relayed: watch::Sender<u64>,
    service: Service,
}

impl World {
    async fn new() -> Self {
        let (clock, store) = (Arc::new(ManualClock::at(NOW)), Arc::new(MemoryConfigStore::default()));
        let ports = Ports {
            log: Arc::new(MemoryLog::new(1, clock.clone())),
            checkpoints: Arc::new(MemoryCheckpoints::default()),
            warehouse: Arc::new(MemoryWarehouse::default()),
            clock,
            plans: Plans::default(),
            left_out: LeftOut::default(),
            background: Background::default(),
        };
        let service =
            Service::start(ports.clone(), Settings::default(), store.clone(), tokio::runtime::Handle::current())
                .await
                .unwrap();
        let (relayed, _) = watch::channel(0);
        Self { store, ports, relayed, service }
    }

    fn queries(&self) -> EngineQueries {
        let (store, relayed) = (self.store.clone(), self.relayed.subscribe());
        let outbox = Outbox { store, written: Arc::default(), relayed };
        EngineQueries::new(self.service.handle(), self.ports.warehouse.clone(), self.ports.clock.clone(), outbox)
    }

    /// Queries that wait only a moment.
    fn impatient(&self) -> EngineQueries {
        EngineQueries { engine_max: Duration::from_millis(20), ..self.queries() }
    }

    /// Appends the outbox to the log.
    async fn relay(&self) {
        let rows = self.store.outbox(0, usize::MAX).await.unwrap();
        let end = rows.last().map_or(0, |row| row.id);
        let records = rows.into_iter().map(|row| row.entry.record(1)).collect();
        self.ports.log.append_once("outbox", end, records).await.unwrap();
        self.relayed.send_replace(end);
    }
}

async fn in_patience<T>(response: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, response).await.expect("a response, or an error")
}

/// A record that a worker never ends to apply: it waits until the absorbed user's partition is archived
/// up to an offset that is never reached.
fn endless_transfer() -> NewRecord {
    let mut machine = Machine::new(machine::Settings::default());
    machine.profile(UserId(9), None, UserProfile::default(), NOW);
    machine.settle();
    let departed = machine.remove_user(UserId(9), Cause::Merge, NOW).unwrap();
    let state = BASE64.encode(machine.save_departed(&departed));
    let transfer = serde_json::json!({"type": "transfer", "user_id": USER, "absorbed": 9, "below": 1_u64 << 40,
        "state": state, "manual": null});
    let value = serde_json::to_vec(&transfer).unwrap();
    NewRecord { topic: Topic::Events, partition: PartitionId(0), key: "1".to_owned(), value }
}

#[tokio::test]
async fn a_stuck_worker_does_not_hold_callers_for_ever() {
    let world = World::new().await;
    assert_eq!(in_patience(world.queries().wait_until_applied()).await, Ok(()));
    let saved = segment(&world.store, "any", Some("count(*) > 0")).await;
    world.relay().await;
    assert_eq!(in_patience(world.queries().wait_until_ordered()).await, Ok(()));
    world.ports.log.append(vec![endless_transfer()]).await.unwrap();
    let queries = world.impatient();
    let behind = SegmentQueryError::Behind(queries.engine_max);
    // What is saved next stands in the log nevertheless.
    segment(&world.store, "next", Some("count(*) > 1")).await;
    world.relay().await;
    assert_eq!(in_patience(world.queries().wait_until_ordered()).await, Ok(()));
    let batch = world.ports.log.read(Topic::Events, PartitionId(0), 0, usize::MAX).await.unwrap();
    let last = batch.records.last().unwrap();
    assert!(last.value.starts_with(br#"{"type":"segment_defined","id":2"#), "{last:?}");
    assert_eq!(in_patience(queries.wait_until_applied()).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.progress(saved)).await, Err(behind.clone()));
    assert_eq!(in_patience(queries.explain(USER, "any")).await, Err(behind));
}

#[tokio::test]
async fn an_outbox_that_nobody_relays_does_not_hold_callers_for_ever() {
    let world = World::new().await;
    world.store.create_user(NewUser::default(), NOW).await.unwrap();
    let queries = world.impatient();
    let behind = Err(SegmentQueryError::Behind(queries.engine_max));
    assert_eq!(in_patience(queries.wait_until_applied()).await, behind);
    assert_eq!(in_patience(queries.wait_until_ordered()).await, behind);
}

/// Stores a segment: with a clause, or manual.
async fn segment(store: &Arc<dyn ConfigStore>, tag: &str, clause: Option<&str>) -> SegmentId {
    let new = NewSegment {
        title: String::new(),
        description: None,
        tag: tag.to_owned(),
        where_statement: clause.unwrap_or_default().to_owned(),
        is_generic: false,
        kind: if clause.is_some() { SegmentKind::Computed } else { SegmentKind::Manual },
        uses: clause.map(|clause| compile(clause).unwrap().segments).unwrap_or_default(),
    };
    store.create_segment(new, NOW).await.unwrap().id
}

#[tokio::test]
async fn a_preview_reads_only_what_its_clause_names() {
    let world = World::new().await;
    let store = &world.store;
    let user = store.create_user(NewUser::default(), NOW).await.unwrap().id;
    let (vip, other) = (segment(store, "vip", None).await, segment(store, "other", None).await);
    store.set_manual_memberships(user, &[vip, other], NOW).await.unwrap();
    segment(store, "busy", Some("count(*) > 1")).await;
    segment(store, "dear", Some("segment('vip') AND count(*) > 2")).await;
    segment(store, "dearest", Some("segment('dear') OR segment('vip')")).await;
    let queries = world.queries();
    let named = async |clause: &str| {
        let named = queries.named(&compile(clause).unwrap()).await.unwrap();
        let mut plans: Vec<String> = named.plans.into_keys().collect();
        plans.sort();
        (plans, named.lists.into_iter().collect::<Vec<_>>())
    };
    let texts = |tags: &[&str]| tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>();
    assert_eq!(named("count(*) > 0").await, (texts(&[]), vec![]));
    assert_eq!(named("segment('other')").await, (texts(&[]), vec![("other".to_owned(), vec![user])]));
    let vip = ("vip".to_owned(), vec![user]);
    assert_eq!(named("segment('dearest')").await, (texts(&["dear", "dearest"]), vec![vip.clone()]));
    assert_eq!(named("segment('busy') AND segment('vip') AND segment('none')").await, (texts(&["busy"]), vec![vip]));
}

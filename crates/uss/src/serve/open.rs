//! Creates objects from settings: adapters behind their ports, services on the ports, routers on
//! the services.

use std::path::Path;
use std::sync::Arc;

use adapters::duckdb::DuckDbWarehouse;
use adapters::embedded::{self, Embedded, Finding, Losses, OpenError, PendingRestore};
use adapters::sql::SqlConfigStore;
use configuration_api::{Api, ErasureDelays, Holds, Relay, SegmentBound, StoreIdentities, TopicNames};
use ingestion_api::{FuturePolicy, Ingestion, Limits, UnknownUsers};
use metrics_exporter_prometheus::PrometheusHandle;
use ports::checkpoints::CheckpointStore;
use ports::clock::{Clock, GuardedClock};
use ports::config_store::{ConfigStore, IdentityRules, MembershipStore};
use ports::log::{Log, LogError};
use ports::warehouse::Warehouse;
use segment_engine::machine;
use segment_users::erasure::{log_delay, warehouse_delay};
use segment_users::left_out::LeftOut;
use segment_users::partition::{Background, Ports};
use segment_users::plans::Plans;
use segment_users::queries::{EngineQueries, Outbox};
use segment_users::readers::ServiceReaders;
use segment_users::retention::trim_interval;
use segment_users::service::Service;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uss_http::serve::Shape;
use uss_http::{AllowedHosts, AllowedOrigins, ApiKeys, CrossSiteGuard, operations};

use super::Runtimes;
use super::clock;
use super::consistency::{LOG_GIVEN_UP, LOG_WAY_BACK};
use super::data_format;
use super::folder;
use super::health;
use super::listen::Each;
use super::registry::{self, ByRole};
use super::{Options, StartError};
use crate::settings::Settings;

const HOUR_MICROS: i64 = 3_600_000_000;
const SECOND_MICROS: i64 = 1_000_000;
const MIB: usize = 1 << 20;

/// The adapters, behind their ports.
pub struct Opened {
    /// The log, in `log/`.
    pub log: Arc<dyn Log>,
    /// The checkpoints, in the log's database.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The warehouse, in `warehouse.duckdb`.
    pub warehouse: Arc<dyn Warehouse>,
    /// The config store, in `config.sqlite`.
    pub store: Arc<dyn ConfigStore>,
    /// The memberships, in the config store.
    pub memberships: Arc<dyn MembershipStore>,
    /// The guarded clock of the machine.
    pub clock: Arc<dyn Clock>,
    /// Wakes the outbox relay.
    pub written: Arc<Notify>,
    /// Holds back the outbox rows of users whose first event is about to be appended.
    pub holds: Arc<Holds>,
    /// Moves the outbox to the log.
    pub relay: Arc<Relay>,
    /// What was repaired or given up in the log's files.
    pub findings: Vec<Finding>,
    /// Whether the log's data must be restored.
    pub restore: PendingRestore,
}

/// Opens all adapters.
pub(super) async fn open(
    settings: &Settings,
    identity_rules: IdentityRules,
    clock: Arc<GuardedClock>,
    options: Options,
) -> Result<Opened, StartError> {
    let folder = &settings.data_dir;
    folder::prepare(folder)?;
    data_format::check(folder)?;
    let Embedded { log, checkpoints, findings, restore } =
        open_log(&folder.join("log"), settings.partitions, clock.clone(), options.accept_loss)?;
    tracing::debug!("opened the log");
    // Checked before anything with a time in it is written.
    clock::start(&log, &clock, options.accept_clock).await?;
    data_format::raise(folder)?;
    // Side by side: after a crash the one reads its write-ahead log, and the other all identities.
    let (warehouse, store) = tokio::join!(open_warehouse(folder), open_store(settings, identity_rules));
    let (warehouse, store) = (warehouse?, Arc::new(store?));
    let log: Arc<dyn Log> = Arc::new(log);
    let written = Arc::<Notify>::default();
    let holds = Arc::new(Holds::new(written.clone()));
    let relay = Arc::new(Relay::new(store.clone(), log.clone(), holds.clone()));
    Ok(Opened {
        log,
        checkpoints: Arc::new(checkpoints),
        warehouse: Arc::new(warehouse),
        memberships: store.clone(),
        store,
        clock,
        holds,
        relay,
        written,
        findings,
        restore,
    })
}

async fn open_warehouse(folder: &Path) -> Result<DuckDbWarehouse, StartError> {
    let file = folder.join("warehouse.duckdb");
    let failed = |error: String| StartError::new(format!("{}: {error}", file.display()));
    let opening = tokio::task::spawn_blocking({
        let file = file.clone();
        move || DuckDbWarehouse::open(&file)
    });
    let opened = opening.await.map_err(|panicked| failed(panicked.to_string()))?;
    opened.inspect(|_| tracing::debug!("opened the warehouse")).map_err(|error| failed(error.to_string()))
}

async fn open_store(settings: &Settings, identity_rules: IdentityRules) -> Result<SqlConfigStore, StartError> {
    let file = settings.data_dir.join("config.sqlite");
    let index_bytes_max = settings.identity_index_mb as usize * MIB;
    let opened = SqlConfigStore::open_sqlite_with(&file, identity_rules, index_bytes_max).await;
    opened
        .inspect(|_| tracing::debug!("opened the config store"))
        .map_err(|error| StartError::new(format!("{}: {error}", file.display())))
}

fn open_log(folder: &Path, partitions: u32, clock: Arc<dyn Clock>, accept_loss: bool) -> Result<Embedded, StartError> {
    let losses = if accept_loss { Losses::GiveUp } else { Losses::Refuse };
    embedded::open_with(folder, partitions, clock, losses).map_err(|error| {
        let what_to_do = match &error {
            OpenError::Lost(_) => format!(
                ". This start changed nothing. {LOG_WAY_BACK}. Or accept it with `uss serve --accept-loss`: {LOG_GIVEN_UP}"
            ),
            OpenError::Log(LogError::Corrupt(_)) => {
                format!(". {LOG_WAY_BACK}. Or move it away and start with `uss serve --accept-loss`: {LOG_GIVEN_UP}")
            }
            OpenError::Log(_) => String::new(),
        };
        StartError::new(format!("{}: {error}{what_to_do}", folder.display()))
    })
}

/// Opens the partitions and starts their tasks, on the given runtimes.
pub async fn start_service(
    opened: &Opened,
    settings: &Settings,
    runtimes: Runtimes<'_>,
) -> Result<Service, StartError> {
    let ports = Ports {
        log: opened.log.clone(),
        checkpoints: opened.checkpoints.clone(),
        warehouse: opened.warehouse.clone(),
        clock: opened.clock.clone(),
        plans: Plans::default(),
        left_out: LeftOut::default(),
        background: Background::default(),
    };
    let worker = segment_users::settings::Settings {
        checkpoint_interval_micros: i64::from(settings.checkpoint_seconds) * SECOND_MICROS,
        machine: machine::Settings {
            remembered_micros: i64::from(settings.event_id_hours) * HOUR_MICROS,
            emit_all_segments: settings.notify_all_segments,
        },
        retention_micros: settings.log_retention.0,
        erase_interval_micros: settings.erase_interval.0,
        ..segment_users::settings::Settings::default()
    };
    let starting = Service::start(ports, worker, opened.memberships.clone(), runtimes.storing.clone());
    let started = runtimes.workers.spawn(starting).await;
    let started =
        started.map_err(|panicked| panicked.to_string()).and_then(|started| started.map_err(|error| error.to_string()));
    started.map_err(|error| StartError::new(format!("the segment service cannot start: {error}")))
}

/// Creates the ingestion service.
pub(super) fn ingestion(
    opened: &Opened,
    service: &Service,
    unknown_users: UnknownUsers,
    future: FuturePolicy,
) -> Arc<Ingestion> {
    let identities = StoreIdentities::new(opened.store.clone(), opened.clock.clone(), opened.holds.clone());
    let (log, clock) = (opened.log.clone(), opened.clock.clone());
    let ingestion = Ingestion::new(log, Arc::new(identities), clock, Limits::default(), unknown_users);
    // They share the machine with it.
    let readers = Arc::new(ServiceReaders::new(service.handle()));
    Arc::new(ingestion.with_future(future).with_readers(readers))
}

/// Starts to move the outbox to the log. After a stop it moves the rest and ends.
pub(super) fn start_relay(opened: &Opened, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let relay = opened.relay.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = relay.run() => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        if let Err(error) = relay.move_all().await {
            tracing::warn!(%error, "the last configuration changes were not sent; the next start sends them");
        }
    })
}

/// Starts to erase deleted rows from the config store's files from time to time.
pub(super) fn start_wiping(opened: &Opened, settings: &Settings) -> JoinHandle<()> {
    let (store, interval) = (opened.store.clone(), trim_interval(settings.log_retention.0));
    tokio::spawn(async move {
        loop {
            if let Err(error) = store.wipe().await {
                tracing::warn!(%error, "could not erase deleted rows from the config store's files yet");
            }
            tokio::time::sleep(interval).await;
        }
    })
}

/// Creates the configuration service.
pub(super) fn configuration(
    opened: &Opened,
    service: &Service,
    ingestion: &Arc<Ingestion>,
    topics: TopicNames,
    settings: &Settings,
    stopped: watch::Receiver<bool>,
) -> Api {
    let ingestion = ingestion.clone();
    let outbox =
        Outbox { store: opened.store.clone(), written: opened.written.clone(), relayed: opened.relay.relayed() };
    let queries = EngineQueries::new(service.handle(), opened.warehouse.clone(), opened.clock.clone(), outbox);
    Api {
        store: opened.store.clone(),
        log: opened.log.clone(),
        queries: Arc::new(queries),
        events: ingestion.clone(),
        clock: opened.clock.clone(),
        written: opened.written.clone(),
        topics,
        segments: SegmentBound::of(settings.segments_max),
        erasure: erasure_delays(settings),
        stopped,
    }
}

/// Returns how long each store keeps deleted users in its files.
fn erasure_delays(settings: &Settings) -> ErasureDelays {
    let (retention, interval) = (settings.log_retention.0, settings.erase_interval.0);
    let config_store = i64::try_from(trim_interval(retention).as_micros()).ok();
    ErasureDelays { config_store, warehouse: warehouse_delay(interval), log: log_delay(retention, interval) }
}

/// Who may call the APIs.
pub(super) struct AccessRules {
    pub keys: ApiKeys,
    pub origins: AllowedOrigins,
    pub hosts: AllowedHosts,
}

/// Creates the routers of all ports.
pub(super) fn routers(
    opened: &Opened,
    api: Api,
    service: &Service,
    ingestion: Arc<Ingestion>,
    access: &AccessRules,
    metrics: ByRole<PrometheusHandle>,
) -> Each<axum::Router> {
    let handle = service.handle();
    let workers = health::of_segment_users(handle.clone(), opened);
    let page = |metrics: PrometheusHandle| operations::metrics(move || std::future::ready(metrics.render()));
    let segment_users = metrics.segment_users;
    let stats = operations::metrics(move || registry::segment_users_page(segment_users.clone(), handle.clone()));
    let AccessRules { keys, origins, hosts } = access;
    let guard = CrossSiteGuard::new(keys, hosts.clone(), origins.clone());
    let ingestion = ingestion_api::router(ingestion, keys, origins);
    let configuration = configuration_api::router(api, keys).merge(page(metrics.configuration));
    let for_admins = guard.for_admins();
    Each {
        ingestion: guard.around(ingestion, Shape::Ingestion),
        ingestion_metrics: for_admins.around(page(metrics.ingestion), Shape::Ingestion),
        segment_users_metrics: for_admins.around(stats.merge(workers), Shape::Configuration),
        configuration: for_admins.around(configuration, Shape::Configuration),
    }
}

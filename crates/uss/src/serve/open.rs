//! Objects from settings: adapters behind their ports, services on the ports, routers on the services.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use adapters::duckdb::DuckDbWarehouse;
use adapters::embedded;
use adapters::sql::SqlConfigStore;
use configuration_api::{Api, Holds, Relay, StoreIdentities, TopicNames};
use ingestion_api::{AllowedOrigins, Ingestion, Limits, UnknownUsers};
use metrics_exporter_prometheus::PrometheusHandle;
use ports::checkpoints::CheckpointStore;
use ports::clock::{Clock, SystemClock};
use ports::config_store::{ConfigStore, IdentityRules, MembershipStore};
use ports::log::Log;
use ports::warehouse::Warehouse;
use segment_engine::machine;
use segment_users::partition::Ports;
use segment_users::service::{Engine, Service};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uss_http::{ApiKeys, Kind, Problem, operations};

use super::StartError;
use super::listen::Each;
use super::queries::EngineQueries;
use super::telemetry;
use crate::settings::Settings;

const HOUR_MICROS: i64 = 3_600_000_000;
const SECOND_MICROS: i64 = 1_000_000;

/// The adapters, behind their ports.
pub struct Opened {
    pub log: Arc<dyn Log>,
    pub checkpoints: Arc<dyn CheckpointStore>,
    pub warehouse: Arc<dyn Warehouse>,
    pub store: Arc<dyn ConfigStore>,
    pub memberships: Arc<dyn MembershipStore>,
    pub clock: Arc<dyn Clock>,
    /// Wakes the outbox relay.
    pub written: Arc<Notify>,
    /// Keeps the relay from users whose first event is on its way.
    pub holds: Arc<Holds>,
}

/// Opens every adapter the settings name.
pub async fn open(settings: &Settings) -> Result<Opened, StartError> {
    let folder = &settings.data_dir;
    make_folder(folder)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    embedded_only("USS_LOG", &settings.log, "embedded:")?;
    let (log, checkpoints) = embedded::open(&folder.join("log"), settings.partitions, clock.clone())
        .map_err(|error| StartError::new(format!("{}: {error}", folder.join("log").display())))?;
    embedded_only("USS_WAREHOUSE", &settings.warehouse, "duckdb:")?;
    let file = folder.join("warehouse.duckdb");
    let warehouse =
        DuckDbWarehouse::open(&file).map_err(|error| StartError::new(format!("{}: {error}", file.display())))?;
    embedded_only("USS_CONFIG_STORE", &settings.config_store, "sqlite:")?;
    let file = folder.join("config.sqlite");
    let store = SqlConfigStore::open_sqlite(&file)
        .await
        .map_err(|error| StartError::new(format!("{}: {error}", file.display())))?;
    let store = Arc::new(store);
    let written = Arc::<Notify>::default();
    Ok(Opened {
        log: Arc::new(log),
        checkpoints: Arc::new(checkpoints),
        warehouse: Arc::new(warehouse),
        memberships: store.clone(),
        store,
        clock,
        holds: Arc::new(Holds::new(written.clone())),
        written,
    })
}

/// Creates the data folder and tries to write in it: an error now is clearer than one of a database later.
fn make_folder(folder: &Path) -> Result<(), StartError> {
    let probe = folder.join(".uss-write-test");
    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&probe, b"")).map_err(|error| {
        StartError::new(format!(
            "the data folder {} cannot be written: {error}; choose another with USS_DATA_DIR or --data-dir, or give this \
             user the right to write there",
            folder.display()
        ))
    })?;
    // A probe that stays behind is harmless.
    let _ = std::fs::remove_file(probe);
    Ok(())
}

fn embedded_only(variable: &str, address: &str, embedded: &str) -> Result<(), StartError> {
    if address.starts_with(embedded) {
        return Ok(());
    }
    Err(StartError::new(format!("{variable}={address}: this build has only the embedded adapter; use {embedded}")))
}

/// Opens the partitions and starts their tasks.
pub async fn start_service(opened: &Opened, settings: &Settings) -> Result<Service, StartError> {
    let ports = Ports {
        log: opened.log.clone(),
        checkpoints: opened.checkpoints.clone(),
        warehouse: opened.warehouse.clone(),
        clock: opened.clock.clone(),
    };
    let worker = segment_users::settings::Settings {
        checkpoint_interval_micros: i64::from(settings.checkpoint_seconds) * SECOND_MICROS,
        machine: machine::Settings {
            remembered_micros: i64::from(settings.event_id_hours) * HOUR_MICROS,
            tell_all_segments: settings.notify_all_segments,
        },
        retention_micros: settings.log_retention.0,
        ..segment_users::settings::Settings::default()
    };
    Service::start(ports, worker, opened.memberships.clone())
        .await
        .map_err(|error| StartError::new(format!("the segment service cannot start: {error}")))
}

/// The ingestion service.
pub fn ingestion(opened: &Opened, settings: &Settings) -> Result<Arc<Ingestion>, StartError> {
    let unknown_users = match settings.unknown_users.as_str() {
        "reject" => UnknownUsers::Reject,
        "create" => UnknownUsers::Create,
        other => return Err(StartError::new(format!("USS_UNKNOWN_USERS={other}: use reject or create"))),
    };
    let identities = StoreIdentities::new(opened.store.clone(), opened.clock.clone(), opened.holds.clone());
    let ingestion = Ingestion::new(
        opened.log.clone(),
        Arc::new(identities),
        opened.clock.clone(),
        Limits::default(),
        unknown_users,
    );
    Ok(Arc::new(ingestion))
}

/// Starts moving the outbox to the log. Told to stop, it moves what is there and ends.
pub fn start_relay(opened: &Opened, mut stopped: watch::Receiver<bool>) -> JoinHandle<()> {
    let relay = Relay::new(opened.store.clone(), opened.log.clone(), opened.holds.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = relay.run() => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        if let Err(error) = relay.move_all().await {
            tracing::warn!(%error, "the last configuration changes reach the engine at the next start");
        }
    })
}

/// The routers of all ports.
pub fn routers(
    opened: &Opened,
    service: &Service,
    ingestion: &Arc<Ingestion>,
    settings: &Settings,
    metrics: PrometheusHandle,
    stopped: watch::Receiver<bool>,
) -> Result<Each<axum::Router>, StartError> {
    let keys = ApiKeys::from_str(&settings.api_keys).map_err(|error| StartError::new(error.to_string()))?;
    let origins = AllowedOrigins::from_str(&settings.allowed_origins).map_err(StartError::new)?;
    let exclusive = settings.exclusive_identities.split(',').map(str::trim).filter(|kind| !kind.is_empty());
    let queries = EngineQueries::new(service.engine(), opened);
    let api = Api {
        store: opened.store.clone(),
        log: opened.log.clone(),
        queries: Arc::new(queries),
        events: ingestion.clone(),
        clock: opened.clock.clone(),
        written: opened.written.clone(),
        identity_rules: IdentityRules { exclusive: exclusive.map(str::to_owned).collect() },
        topics: TopicNames {
            events: settings.event_ingested_topic.clone(),
            errors: settings.error_topic.clone(),
            notifications: settings.notification_topic.clone(),
            config: settings.config_topic.clone(),
        },
        forget: {
            let ingestion = ingestion.clone();
            Arc::new(move |user| ingestion.forget(user))
        },
        stopped,
    };
    let engine = service.engine();
    let workers = operations::health({
        let engine = engine.clone();
        move || std::future::ready(workers_work(&engine))
    });
    let metrics = operations::metrics(move || telemetry::page(metrics.clone(), engine.clone()));
    Ok(Each {
        ingestion: ingestion_api::router(ingestion.clone(), &keys, &origins),
        ingestion_metrics: metrics.clone(),
        segment_users_metrics: metrics.clone().merge(workers),
        configuration: configuration_api::router(api, &keys).merge(metrics),
    })
}

/// Whether every partition's worker works, for those who decide whether the process is to be restarted.
fn workers_work(engine: &Engine) -> Result<(), Problem> {
    let down = engine.down();
    if down.is_empty() {
        return Ok(());
    }
    let message = format!("the workers of partitions {down:?} have failed and are starting again; the log says why");
    Err(Problem::new(Kind::Unavailable, "WORKERS_DOWN", message))
}

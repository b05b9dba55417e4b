//! The composition root: settings in, a running system out. The only place that names concrete adapters.

mod listen;
mod open;
mod queries;
mod telemetry;

use std::fmt;

use ingestion_api::Ingestion;
use segment_users::service::Service;
use tokio::sync::watch;

use crate::settings::Settings;
use open::Opened;

/// Why the system could not be started, in words for whoever started it.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StartError {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Runs until told to stop.
///
/// # Errors
/// What keeps it from starting: a setting, a port in use, a data folder that cannot be written.
pub fn run(settings: Settings, insecure: bool) -> Result<(), StartError> {
    let metrics = telemetry::install(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| StartError::new(format!("the runtime cannot start: {error}")))?;
    runtime.block_on(serve(settings, insecure, metrics))
}

async fn serve(
    settings: Settings,
    insecure: bool,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> Result<(), StartError> {
    // Ports first: a second start on the same machine says so before it touches any data.
    let listeners = listen::bind(&settings, insecure).await?;
    let opened = open::open(&settings).await?;
    let service = open::start_service(&opened, &settings).await?;
    let ingestion = open::ingestion(&opened, &settings)?;
    let upkeep = tokio::spawn(telemetry::keep_up(metrics.clone()));
    let (stop, stopped) = watch::channel(false);
    let relay = open::start_relay(&opened, stopped.clone());
    let routers = open::routers(&opened, &service, &ingestion, &settings, metrics, stopped.clone())?;
    let addresses = listeners.addresses();
    let servers = listeners.serve(routers, stopped);
    listen::announce(&addresses, &settings);
    listen::stop_signal().await;
    tracing::info!("stopping: no new requests; what was accepted is finished");
    stop.send_replace(true);
    shut_down(servers, relay, service, opened, ingestion).await;
    upkeep.abort();
    tracing::info!("stopped");
    Ok(())
}

/// In this order: no more input, the last outbox rows, the last turns and checkpoints, then the stores.
async fn shut_down(
    servers: tokio::task::JoinSet<()>,
    relay: tokio::task::JoinHandle<()>,
    service: Service,
    opened: Opened,
    ingestion: std::sync::Arc<Ingestion>,
) {
    servers.join_all().await;
    if relay.await.is_err() {
        tracing::error!("the outbox relay ended badly; what it had not sent is sent at the next start");
    }
    service.stop().await;
    drop((ingestion, opened));
}

//! The composition root: turns settings into a running system. Only this module and its
//! submodules name concrete adapters.

mod checked;
mod clock;
mod consistency;
mod data_format;
mod descriptors;
mod disk;
mod folder;
mod health;
mod listen;
mod logging;
mod open;
mod registry;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use configuration_api::Api;
use ingestion_api::Ingestion;
use metrics_exporter_prometheus::PrometheusHandle;
use ports::clock::GuardedClock;
use ports::config_store::IdentityRules;
use segment_users::service::Service;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::settings::Settings;
use checked::Checked;
use listen::Each;
pub use open::{Opened, start_service};
use registry::ByRole;

/// Why the system could not start, in words for the operator.
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

/// The options of one start, which are not settings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Bind to an address that is not loopback although there are no API keys.
    pub insecure: bool,
    /// Load sample data if there are neither users nor segments yet, and show commands to try.
    pub sample_data: bool,
    /// Continue although a store has lost data that another store has.
    pub accept_loss: bool,
    /// Accept the time of the system clock, whatever the log's last time.
    pub accept_clock: bool,
}

/// How long a stop waits, for each runtime, for queries whose callers have gone.
const ABANDONED_QUERIES_MAX: Duration = Duration::from_secs(2);

/// Runs until a signal stops it.
///
/// # Errors
/// Whatever prevents the start: a bad setting, a port in use, a data folder that cannot be written.
pub fn run(settings: Settings, options: Options) -> Result<(), StartError> {
    logging::install(&settings)?;
    let metrics = registry::install()?;
    // A task runs until it waits, however long it computes. The operating system gives each runtime its
    // share of the cores.
    let (workers, storing, http) = (runtime("segment-users")?, runtime("storing")?, runtime("http")?);
    let segment_users = Runtimes { workers: workers.handle(), storing: storing.handle() };
    let outcome = http.block_on(serve(settings, options, metrics, segment_users));
    // A query whose caller has gone may compute for minutes more; everything else has ended.
    for runtime in [http, storing, workers] {
        runtime.shutdown_timeout(ABANDONED_QUERIES_MAX);
    }
    outcome
}

/// Where the segment service runs.
#[derive(Clone, Copy)]
pub struct Runtimes<'a> {
    /// For the workers, and what is as short as their turns.
    pub workers: &'a Handle,
    /// For what brings into the stores what the log has: the workers' turns do not wait for it.
    pub storing: &'a Handle,
}

/// Creates a runtime with a thread for each core.
fn runtime(thread_name: &str) -> Result<Runtime, StartError> {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.thread_name(thread_name).enable_all().build();
    runtime.map_err(|error| StartError::new(format!("the runtime cannot start: {error}")))
}

async fn serve(
    settings: Settings,
    options: Options,
    metrics: ByRole<PrometheusHandle>,
    segment_users: Runtimes<'_>,
) -> Result<(), StartError> {
    let running = Running::start(&settings, options, metrics, clock::guarded(&settings), segment_users).await?;
    let stop_signal = listen::stop_signal();
    listen::announce(&running.addresses, &settings);
    if options.sample_data {
        load_sample_data(running.api.clone(), &running.addresses).await;
    }
    stop_signal.await;
    tracing::info!("stopping: takes no new requests, and finishes those it has accepted");
    running.stop().await;
    tracing::info!("stopped");
    Ok(())
}

/// The running parts.
struct Running {
    addresses: Each<SocketAddr>,
    api: Api,
    stop: watch::Sender<bool>,
    servers: JoinSet<()>,
    relay: JoinHandle<()>,
    service: Service,
    opened: Opened,
    ingestion: Arc<Ingestion>,
    upkeep: JoinHandle<()>,
    disk: JoinHandle<()>,
    wiping: JoinHandle<()>,
}

impl Running {
    /// Starts the segment service on the runtimes `segment_users`, and everything else on the
    /// current one.
    async fn start(
        settings: &Settings,
        options: Options,
        metrics: ByRole<PrometheusHandle>,
        clock: Arc<GuardedClock>,
        segment_users: Runtimes<'_>,
    ) -> Result<Self, StartError> {
        // First, so that a start that cannot succeed, such as a second one on the same ports,
        // fails before it touches data.
        let Checked { unknown_users, future, access, topics, identity_rules } = Checked::of(settings)?;
        let limits = descriptors::divide(descriptors::raise_limit(), settings);
        let listeners = listen::bind(settings, &access.keys, options.insecure).await?;
        let opened = open_with(settings, identity_rules, clock, options).await?;
        let service = start_service(&opened, settings, segment_users).await?;
        let ingestion = open::ingestion(&opened, &service, unknown_users, future);
        let upkeep = tokio::spawn(registry::keep_up(metrics.clone()));
        let disk = tokio::spawn(disk::watch(settings.data_dir.clone()));
        let (stop, stopped) = watch::channel(false);
        let relay = open::start_relay(&opened, stopped.clone());
        let wiping = open::start_wiping(&opened, settings);
        let api = open::configuration(&opened, &service, &ingestion, topics, settings, stopped.clone());
        let routers = open::routers(&opened, api.clone(), &service, ingestion.clone(), &access, metrics);
        let addresses = listeners.addresses();
        let idle = Duration::from_secs(u64::from(settings.idle_connection_seconds));
        let servers = listeners.serve(routers, &limits, idle, &stopped);
        Ok(Self { addresses, api, stop, servers, relay, service, opened, ingestion, upkeep, disk, wiping })
    }

    /// Stops in this order: input, the last outbox rows, the last turns and checkpoints, the
    /// stores.
    async fn stop(self) {
        let Self { stop, servers, relay, service, upkeep, disk, wiping, .. } = self;
        stop.send_replace(true);
        wiping.abort();
        servers.join_all().await;
        if relay.await.is_err() {
            tracing::error!("the outbox relay failed; the next start sends the rest");
        }
        service.stop().await;
        upkeep.abort();
        disk.abort();
        drop((self.api, self.ingestion, self.opened));
    }
}

/// Opens the stores of the data folder with the system's clock, and checks that they belong
/// together.
///
/// # Errors
/// A store cannot be opened, or lacks data that another has. `options.accept_loss` accepts such
/// losses.
pub async fn open_stores(
    settings: &Settings,
    identity_rules: IdentityRules,
    options: Options,
) -> Result<Opened, StartError> {
    open_with(settings, identity_rules, clock::guarded(settings), options).await
}

async fn open_with(
    settings: &Settings,
    identity_rules: IdentityRules,
    clock: Arc<GuardedClock>,
    options: Options,
) -> Result<Opened, StartError> {
    let opened = open::open(settings, identity_rules, clock, options).await?;
    consistency::check(&opened, options.accept_loss).await?;
    Ok(opened)
}

async fn load_sample_data(api: Api, addresses: &Each<SocketAddr>) {
    match configuration_api::load_sample_data(api).await {
        Ok(loaded) => listen::suggest(addresses, loaded),
        Err(problem) => tracing::error!(?problem, "the sample data could not be loaded"),
    }
}

//! Ports: bound before anything is opened, served until told to stop.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uss_http::unread::dispose_unread;

use super::StartError;
use crate::settings::Settings;

/// How long requests under way may take once the process is told to stop.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// One of everything that listens.
pub struct Each<T> {
    pub ingestion: T,
    pub ingestion_metrics: T,
    pub segment_users_metrics: T,
    pub configuration: T,
}

/// Binds all ports.
pub async fn bind(settings: &Settings, insecure: bool) -> Result<Each<TcpListener>, StartError> {
    let is_loopback = settings.bind == "localhost"
        || settings.bind.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if !is_loopback && settings.api_keys.is_empty() && !insecure {
        return Err(StartError::new(format!(
            "USS_BIND={}: anyone who reaches this address could do everything. Set USS_API_KEYS, or bind to 127.0.0.1, \
             or say --insecure",
            settings.bind
        )));
    }
    Ok(Each {
        ingestion: listen(settings, "INGESTION_API_PORT", settings.ingestion_api_port).await?,
        ingestion_metrics: listen(settings, "INGESTION_METRICS_PORT", settings.ingestion_metrics_port).await?,
        segment_users_metrics: listen(settings, "SEGMENT_USERS_METRICS_PORT", settings.segment_users_metrics_port)
            .await?,
        configuration: listen(settings, "CONFIGURATION_API_PORT", settings.configuration_api_port).await?,
    })
}

async fn listen(settings: &Settings, variable: &str, port: u16) -> Result<TcpListener, StartError> {
    TcpListener::bind((settings.bind.as_str(), port)).await.map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another process has it; stop that, or choose another port with",
            _ => "choose another with USS_BIND or",
        };
        StartError::new(format!("cannot listen on {}:{port}: {error}: {advice} {variable}", settings.bind))
    })
}

impl Each<TcpListener> {
    /// The addresses, with the ports that were found free where the settings said 0.
    pub fn addresses(&self) -> Each<SocketAddr> {
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
        Each {
            ingestion: address(&self.ingestion),
            ingestion_metrics: address(&self.ingestion_metrics),
            segment_users_metrics: address(&self.segment_users_metrics),
            configuration: address(&self.configuration),
        }
    }

    /// Serves each router on its listener until told to stop; requests under way are finished, within bounds.
    pub fn serve(self, routers: Each<Router>, stopped: watch::Receiver<bool>) -> JoinSet<()> {
        let mut servers = JoinSet::new();
        for (listener, router) in [
            (self.ingestion, routers.ingestion),
            (self.ingestion_metrics, routers.ingestion_metrics),
            (self.segment_users_metrics, routers.segment_users_metrics),
            (self.configuration, routers.configuration),
        ] {
            servers.spawn(serve(listener, router, stopped.clone()));
        }
        servers
    }
}

async fn serve(listener: TcpListener, router: Router, stopped: watch::Receiver<bool>) {
    use axum::serve::ListenerExt as _;
    // Small answers must not wait for more to come.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let (mut told, mut over) = (stopped.clone(), stopped);
    // Ingestion asks who sends: nobody may take all of its capacity.
    let service = dispose_unread(router).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async move {
        let _ = told.wait_for(|stop| *stop).await;
    });
    tokio::select! {
        outcome = serving => {
            if let Err(error) = outcome {
                tracing::error!(%error, "a server stopped");
            }
        }
        () = async {
            let _ = over.wait_for(|stop| *stop).await;
            tokio::time::sleep(DRAIN).await;
        } => tracing::warn!("requests that would not end were cut off"),
    }
}

/// Says on standard output where everything is.
#[allow(clippy::print_stdout, reason = "the start of the system is told to people")]
pub fn announce(addresses: &Each<SocketAddr>, settings: &Settings) {
    println!("USS is serving. Data: {}", settings.data_dir.display());
    println!("  events          http://{}/api/v1/events", addresses.ingestion);
    println!("  configuration   http://{}/api/v1/segments", addresses.configuration);
    println!(
        "  metrics         http://{}/metrics  http://{}/metrics  http://{}/metrics",
        addresses.ingestion_metrics, addresses.segment_users_metrics, addresses.configuration
    );
}

/// Says what to try.
#[allow(clippy::print_stdout, reason = "the start of the system is told to people")]
pub fn suggest(addresses: &Each<SocketAddr>, loaded: bool) {
    if loaded {
        println!("The sample data is loaded: 100 users, 1,000 events, three segments.");
    }
    let Each { ingestion, configuration, .. } = addresses;
    println!(
        r#"Try:
  curl http://{configuration}/api/v1/users/segment/area_no_buyers
  curl -H 'Content-Type: application/json' http://{ingestion}/api/v1/events \
    -d '{{"id":"c1d1caef-b216-4fca-bd2d-d776bd6204d6","id_type":"cookie","region":"California","payload":{{"activity_type":"page_viewed"}}}}'
  curl http://{configuration}/api/v1/users/1/segments/area_no_buyers/explain"#
    );
}

/// Returns on SIGINT or SIGTERM, also on one that came between the call and the first poll.
pub fn stop_signal() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

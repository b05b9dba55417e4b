//! The ports. They are bound before any store is opened, and served until the process stops.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uss_http::ApiKeys;
use uss_http::connections::{self, ConnectionLimits, Port, Times};
use uss_http::serve::Shape;
use uss_http::unread::dispose_unread;

use super::StartError;
use crate::cli::say;
use crate::settings::Settings;

/// One value for each port.
pub(crate) struct Each<T> {
    pub(crate) ingestion: T,
    pub(crate) ingestion_metrics: T,
    pub(crate) segment_users_metrics: T,
    pub(crate) configuration: T,
}

/// Binds all ports.
pub(crate) async fn bind(settings: &Settings, keys: &ApiKeys, insecure: bool) -> Result<Each<TcpListener>, StartError> {
    let is_loopback = settings.bind == "localhost"
        || settings.bind.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    // The parsed list counts: a setting of separators alone holds no key.
    if !is_loopback && keys.is_empty() && !insecure {
        return Err(StartError::new(format!(
            "USS_BIND={}: anyone who reaches this address could do everything. Set USS_API_KEYS, or bind to 127.0.0.1, \
             or start with --insecure",
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
            std::io::ErrorKind::AddrInUse => "another process uses this port; stop it, or choose another port with",
            _ => "choose another with USS_BIND or",
        };
        StartError::new(format!("cannot listen on {}:{port}: {error}: {advice} {variable}", settings.bind))
    })
}

impl Each<TcpListener> {
    /// Returns the bound addresses. Where a setting is 0, the address has the port that was free.
    pub(crate) fn addresses(&self) -> Each<SocketAddr> {
        let address = |listener: &TcpListener| listener.local_addr().expect("a bound listener has an address");
        Each {
            ingestion: address(&self.ingestion),
            ingestion_metrics: address(&self.ingestion_metrics),
            segment_users_metrics: address(&self.segment_users_metrics),
            configuration: address(&self.configuration),
        }
    }

    /// Serves each router on its listener until `stopped` is true. Requests in progress are
    /// finished, within bounds.
    pub(crate) fn serve(
        self,
        routers: Each<Router>,
        limits: &Each<ConnectionLimits>,
        idle: Duration,
        stopped: &watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let mut servers = JoinSet::new();
        let times = Times { idle, ..Times::default() };
        for (name, shape, listener, router, limits) in [
            ("ingestion", Shape::Ingestion, self.ingestion, routers.ingestion, limits.ingestion),
            (
                "ingestion_metrics",
                Shape::Ingestion,
                self.ingestion_metrics,
                routers.ingestion_metrics,
                limits.ingestion_metrics,
            ),
            (
                "segment_users_metrics",
                Shape::Configuration,
                self.segment_users_metrics,
                routers.segment_users_metrics,
                limits.segment_users_metrics,
            ),
            ("configuration", Shape::Configuration, self.configuration, routers.configuration, limits.configuration),
        ] {
            let port = Port { name, shape, limits, times };
            servers.spawn(connections::serve(listener, dispose_unread(router), port, stopped.clone()));
        }
        servers
    }
}

/// Writes the addresses to standard output.
pub(crate) fn announce(addresses: &Each<SocketAddr>, settings: &Settings) {
    say(format_args!("USS is serving. Data: {}", settings.data_dir.display()));
    say(format_args!("  events          http://{}/api/v1/events", addresses.ingestion));
    say(format_args!("  configuration   http://{}/api/v1/segments", addresses.configuration));
    say(format_args!(
        "  metrics         http://{}/metrics  http://{}/metrics  http://{}/metrics",
        addresses.ingestion_metrics, addresses.segment_users_metrics, addresses.configuration
    ));
}

/// Writes commands to try to standard output.
pub(crate) fn suggest(addresses: &Each<SocketAddr>, loaded: bool) {
    if loaded {
        say("The sample data is loaded: 100 users, 1,000 events, three segments.");
    }
    let Each { ingestion, configuration, .. } = addresses;
    say(format_args!(
        r#"Try:
  curl http://{configuration}/api/v1/users/segment/area_no_buyers
  curl -H 'Content-Type: application/json' http://{ingestion}/api/v1/events \
    -d '{{"id":"c1d1caef-b216-4fca-bd2d-d776bd6204d6","id_type":"cookie","region":"California","payload":{{"activity_type":"page_viewed"}}}}'
  curl http://{configuration}/api/v1/users/1/segments/area_no_buyers/explain"#
    ));
}

/// Returns a future that ends on SIGINT or SIGTERM, also on a signal between this call and the
/// first poll.
pub(crate) fn stop_signal() -> impl Future<Output = ()> {
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

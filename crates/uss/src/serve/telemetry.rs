//! Logs and metrics.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use segment_users::service::Engine;
use tracing_subscriber::EnvFilter;

use super::StartError;
use crate::settings::Settings;

/// Buckets of every duration, in seconds.
const SECONDS: [f64; 14] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// How often what was observed is put into its buckets. Without, every observation would be kept until somebody looks.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the log and the metrics recorder of the process.
pub fn install(settings: &Settings) -> Result<PrometheusHandle, StartError> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|error| StartError::new(format!("LOG_LEVEL={}: {error}", settings.log_level)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format.as_str() {
        "text" => log.init(),
        "json" => log.json().init(),
        other => return Err(StartError::new(format!("USS_LOG_FORMAT={other}: use text or json"))),
    }
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| StartError::new(format!("the metrics recorder cannot start: {error}")))?;
    metrics::gauge!("uss_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Keeps the memory of the metrics bounded, for as long as the process lives.
pub async fn keep_up(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// The page of metrics: what was counted as it happened, then the figures of this moment. Those have a recorder of their own
/// that lives no longer than the page, so that a segment's series go with the segment.
pub async fn page(metrics: PrometheusHandle, engine: Engine) -> String {
    let mut text = metrics.render();
    match engine.figures().await {
        Ok(figures) => {
            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, || figures.report());
            text.push_str(&recorder.handle().render());
        }
        Err(error) => tracing::warn!(%error, "the metrics lack the figures of the segment service"),
    }
    text
}

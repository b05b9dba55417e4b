//! Logs and metrics.

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use super::StartError;
use crate::settings::Settings;

/// Buckets of every duration, in seconds.
const SECONDS: [f64; 14] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

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

//! Keeps the metrics of the roles apart, so that scraping the ports of all roles counts no metric
//! twice.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use segment_users::handle::ServiceHandle;

use super::StartError;

/// Buckets of every duration, in seconds.
const SECONDS: [f64; 14] =
    [0.000_01, 0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// How often observations are added to their buckets. Otherwise each would be kept until the next
/// scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// One value for each role.
#[derive(Clone)]
pub(crate) struct ByRole<T> {
    pub(crate) ingestion: T,
    pub(crate) segment_users: T,
    pub(crate) configuration: T,
}

/// Installs the metrics recorder of the process, and returns the handles that render each role's
/// metrics.
pub(crate) fn install() -> Result<ByRole<PrometheusHandle>, StartError> {
    let recorders = ByRole { ingestion: recorder()?, segment_users: recorder()?, configuration: recorder()? };
    for recorder in recorders.each() {
        metrics::with_local_recorder(recorder, || {
            metrics::gauge!("uss_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
    }
    let handles = ByRole {
        ingestion: recorders.ingestion.handle(),
        segment_users: recorders.segment_users.handle(),
        configuration: recorders.configuration.handle(),
    };
    metrics::set_global_recorder(recorders).map_err(failed)?;
    Ok(handles)
}

fn recorder() -> Result<PrometheusRecorder, StartError> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS).map_err(failed)?;
    Ok(builder.build_recorder())
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::new(format!("the metrics recorder cannot start: {error}"))
}

impl<T> ByRole<T> {
    fn each(&self) -> [&T; 3] {
        [&self.ingestion, &self.segment_users, &self.configuration]
    }

    /// Returns the value of the role whose crate emits the metric. The target of a metric is its
    /// module path by default.
    fn of(&self, metadata: &Metadata<'_>) -> &T {
        match metadata.target().split("::").next() {
            Some("ingestion_api") => &self.ingestion,
            Some("configuration_api") => &self.configuration,
            _ => &self.segment_users,
        }
    }
}

impl Recorder for ByRole<PrometheusRecorder> {
    // Descriptions are not recorded: docs/reference/metrics.md has them.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of(metadata).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.of(metadata).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.of(metadata).register_histogram(key, metadata)
    }
}

/// Keeps the memory of the metrics bounded while the process runs.
pub(crate) async fn keep_up(metrics: ByRole<PrometheusHandle>) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.each().into_iter().for_each(PrometheusHandle::run_upkeep);
    }
}

/// Renders the page of the segment service: the counters, then the stats of this moment. The stats
/// have a recorder of their own that lives only as long as the page, so that a segment's series go
/// with the segment.
pub(crate) async fn segment_users_page(metrics: PrometheusHandle, service: ServiceHandle) -> String {
    let mut text = metrics.render();
    match service.stats().await {
        Ok(stats) => {
            let recorder = PrometheusBuilder::new().build_recorder();
            metrics::with_local_recorder(&recorder, || stats.report());
            text.push_str(&recorder.handle().render());
        }
        Err(error) => tracing::warn!(%error, "the metrics lack the stats of the segment service"),
    }
    text
}

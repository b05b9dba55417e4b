//! Divides the file descriptors. Each connection takes one, and so does each file of a database.
//! The clients of one port must not be able to block the other ports, or to keep the log from
//! opening a file.

use uss_http::connections::ConnectionLimits;

use super::listen::Each;
use crate::settings::Settings;

/// Descriptors for the databases. If the limit is less than twice as high, they get half of it.
const RESERVED: u64 = 1_024;
/// Connections of a metrics port, which serves a few scrapers and health checks.
const METRICS_CONNECTIONS_MAX: u64 = 64;

/// Raises the limit of open files as far as this process may, and returns it.
pub(crate) fn raise_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be raised");
        // Nearly every system allows at least this many.
        rlimit::Resource::NOFILE.get_soft().unwrap_or(RESERVED)
    })
}

/// Divides the descriptors among the ports. Warns if the settings want more connections than there
/// are.
pub(crate) fn divide(descriptors: u64, settings: &Settings) -> Each<ConnectionLimits> {
    let for_ports = descriptors - RESERVED.min(descriptors / 2);
    let metrics = METRICS_CONNECTIONS_MAX.min(for_ports / 8).max(1);
    let share = (for_ports.saturating_sub(2 * metrics) / 2).max(1);
    let wanted = u64::from(settings.connections_max);
    if share < wanted {
        tracing::warn!(
            "connections_max is {wanted}, but the limit of {descriptors} open files leaves {share} connections to each API; \
             raise it with ulimit -n (LimitNOFILE= of systemd)"
        );
    }
    let limits = |most: u64| {
        let connections_max = usize::try_from(most).unwrap_or(usize::MAX);
        // One address never gets all connections of a port.
        let half = connections_max.div_ceil(2);
        ConnectionLimits { connections_max, per_address_max: half.min(settings.connections_per_address_max as usize) }
    };
    Each {
        ingestion: limits(share.min(wanted)),
        ingestion_metrics: limits(metrics),
        segment_users_metrics: limits(metrics),
        configuration: limits(share.min(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_can_take_the_descriptors_of_others() {
        let settings = Settings::read(None, &serde_json::json!({"connections_max": 4_096})).unwrap();
        // The limit of open files, and the connections of each API and of each metrics port.
        for (descriptors, api, metrics) in [
            (1_048_576, 4_096, 64),
            (10_000, 4_096, 64),
            (4_096, 1_472, 64),
            (1_024, 192, 64),
            (256, 48, 16),
            (64, 12, 4),
        ] {
            let each = divide(descriptors, &settings);
            let most = |limits: ConnectionLimits| limits.connections_max;
            assert_eq!((most(each.ingestion), most(each.configuration)), (api, api), "of {descriptors}");
            assert_eq!((most(each.ingestion_metrics), most(each.segment_users_metrics)), (metrics, metrics));
            let all = 2 * (api + metrics) as u64;
            assert!(all <= descriptors - 1_024.min(descriptors / 2), "{all} of {descriptors}");
            assert!(each.configuration.per_address_max <= api.div_ceil(2));
        }
        let settings = serde_json::json!({"connections_max": 4_096, "connections_per_address_max": 10});
        let each = divide(1_048_576, &Settings::read(None, &settings).unwrap());
        assert_eq!((each.ingestion.per_address_max, each.ingestion_metrics.per_address_max), (10, 10));
    }
}

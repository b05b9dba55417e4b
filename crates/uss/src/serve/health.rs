//! `/health-check` of the segment service: checks what the service cannot work without.

use axum::Router;
use ports::ErrorCode;
use ports::clock::Clock;
use segment_users::handle::ServiceHandle;
use uss_http::operations::{self, Condition, Health};
use uss_http::{Kind, Problem};

use super::open::Opened;

/// Returns the route of the health check. An orchestrator decides by it whether to restart the
/// process.
pub(super) fn of_segment_users(service: ServiceHandle, opened: &Opened) -> Router {
    let (log, warehouse, store) = (opened.log.clone(), opened.warehouse.clone(), opened.store.clone());
    let clock = opened.clock.clone();
    operations::health(move || {
        let (service, log, warehouse, store) = (service.clone(), log.clone(), warehouse.clone(), store.clone());
        let clock = clock.clone();
        async move {
            let (log, store, warehouse) = tokio::join!(
                operations::check(ErrorCode::LogUnavailable, log.ping()),
                operations::check(ErrorCode::StoreUnavailable, store.ping()),
                operations::check(ErrorCode::WarehouseUnavailable, warehouse.ping()),
            );
            let health: Health = vec![
                ("workers", workers(&service).into()),
                ("log", log),
                ("configStore", store),
                ("warehouse", warehouse),
                ("clock", of_clock(clock.as_ref())),
            ];
            health
        }
    })
}

/// A doubtful clock is only a warning: the service works, and a restart would accept the jump.
fn of_clock(clock: &dyn Clock) -> Condition {
    let warning = clock.status().warning();
    warning.map_or(Condition::Ok, |(code, message)| Condition::Warning { code, message })
}

/// Checks that the worker of every partition is running.
fn workers(service: &ServiceHandle) -> Result<(), Problem> {
    let down: Vec<u32> = service.down().into_iter().map(|partition| partition.0).collect();
    if down.is_empty() {
        return Ok(());
    }
    let message = format!("the workers of partitions {down:?} have failed and are starting again; the log says why");
    Err(Problem::new(Kind::Unavailable, ErrorCode::WorkersDown, message))
}

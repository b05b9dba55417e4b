//! `/health-check` of the segment service: checks what the service cannot work without.

use axum::Router;
use ports::config_store::ConfigStoreError;
use segment_users::handle::ServiceHandle;
use uss_http::operations::{self, Health};
use uss_http::{Kind, Problem};

use super::open::Opened;

/// Returns the route of the health check. An orchestrator decides by it whether to restart the
/// process.
pub fn of_segment_users(service: ServiceHandle, opened: &Opened) -> Router {
    let (log, warehouse, store) = (opened.log.clone(), opened.warehouse.clone(), opened.store.clone());
    operations::health(move || {
        let (service, log, warehouse, store) = (service.clone(), log.clone(), warehouse.clone(), store.clone());
        async move {
            let (log, warehouse, store) = tokio::join!(log.ping(), warehouse.ping(), store.ping());
            let store = store.map_err(|error: ConfigStoreError| error.into());
            let (log, warehouse) = (log.map_err(Problem::from), warehouse.map_err(Problem::from));
            let health: Health =
                vec![("workers", workers(&service)), ("log", log), ("configStore", store), ("warehouse", warehouse)];
            health
        }
    })
}

/// Checks that the worker of every partition is running.
fn workers(service: &ServiceHandle) -> Result<(), Problem> {
    let down = service.down();
    if down.is_empty() {
        return Ok(());
    }
    let message = format!("the workers of partitions {down:?} have failed and are starting again; the log says why");
    Err(Problem::new(Kind::Unavailable, "WORKERS_DOWN", message))
}

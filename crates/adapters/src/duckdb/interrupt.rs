//! Ends queries whose callers have gone, because each would hold a reader until it finishes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duckdb::{Connection, InterruptHandle};
use ports::warehouse::WarehouseError;

/// The query of one call.
#[derive(Default)]
pub(super) struct Query(Arc<Mutex<Stage>>);

#[derive(Default)]
enum Stage {
    #[default]
    Waiting,
    Runs(Arc<InterruptHandle>),
    Over,
}

/// Ends the query when it is dropped, which happens when the call's future is dropped.
pub(super) struct EndOnDrop(Arc<Mutex<Stage>>);

impl Query {
    /// Returns a guard for the caller to hold while it waits.
    pub(super) fn end_on_drop(&self) -> EndOnDrop {
        EndOnDrop(self.0.clone())
    }

    /// Runs the query on this connection, unless its caller has gone.
    pub(super) fn run<T>(
        self,
        connection: &Connection,
        act: impl FnOnce() -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        {
            let mut stage = locked(&self.0);
            if matches!(*stage, Stage::Over) {
                return Err(WarehouseError::Unavailable("the caller of the query has gone".to_owned()));
            }
            *stage = Stage::Runs(connection.interrupt_handle());
        }
        let result = act();
        // From here on another query may use the connection.
        *locked(&self.0) = Stage::Over;
        result
    }
}

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let mut stage = locked(&self.0);
        if let Stage::Runs(query) = &*stage {
            query.interrupt();
        }
        *stage = Stage::Over;
    }
}

fn locked(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Queries that nobody waits for any more are ended: one of them would hold a reader for as long as it takes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use duckdb::{Connection, InterruptHandle};
use ports::warehouse::WarehouseError;

/// The one query that belongs to a call.
#[derive(Default)]
pub struct Query(Arc<Mutex<Stage>>);

#[derive(Default)]
enum Stage {
    #[default]
    Waiting,
    Runs(Arc<InterruptHandle>),
    Over,
}

/// Ends the query when it is dropped, which happens when the call is.
pub struct EndsWhenDropped(Arc<Mutex<Stage>>);

impl Query {
    /// What the caller holds while it waits.
    pub fn end_when_dropped(&self) -> EndsWhenDropped {
        EndsWhenDropped(self.0.clone())
    }

    /// Runs the query on this connection, unless its caller has gone.
    pub fn run<T>(
        self,
        connection: &Connection,
        act: impl FnOnce() -> Result<T, WarehouseError>,
    ) -> Result<T, WarehouseError> {
        {
            let mut stage = locked(&self.0);
            if matches!(*stage, Stage::Over) {
                return Err(WarehouseError::Unavailable("nobody waits for the answer".to_owned()));
            }
            *stage = Stage::Runs(connection.interrupt_handle());
        }
        let answer = act();
        // From here on the connection is somebody else's.
        *locked(&self.0) = Stage::Over;
        answer
    }
}

impl Drop for EndsWhenDropped {
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

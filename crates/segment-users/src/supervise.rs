//! Keeps tasks running: restarts those that fail, and turns panics into errors.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use segment_engine::ids::PartitionId;
use tokio::sync::watch;

use crate::partition::WorkerError;

/// How long a failed task waits before it starts again from what is stored.
pub(crate) const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Runs a task until `stop` is true. A task that fails starts again.
pub(crate) async fn until_stopped<E: std::fmt::Display, F: Future<Output = Result<(), E>>>(
    mut stop: watch::Receiver<bool>,
    name: &'static str,
    partition: PartitionId,
    start: impl Fn() -> F,
) {
    loop {
        tokio::select! {
            outcome = AssertUnwindSafe(start()).catch_unwind() => match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(partition = partition.0, "the {name} stopped and starts again: {error}"),
                Err(panic) => {
                    tracing::error!(partition = partition.0, "the {name} panicked and starts again: {}", message_of(&*panic));
                }
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_DELAY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// Runs `work`; a panic becomes an error.
pub(crate) async fn catch_panic<T>(work: impl Future<Output = Result<T, WorkerError>>) -> Result<T, WorkerError> {
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    outcome.unwrap_or_else(|panic| Err(WorkerError::Panicked(message_of(&*panic))))
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_message() {
        let outcome: Result<(), _> = catch_panic(async { panic!("no. {}", 7) }).await;
        assert!(matches!(outcome, Err(WorkerError::Panicked(message)) if message == "no. 7"));
        assert!(matches!(catch_panic(async { Ok(3) }).await, Ok(3)));
    }

    #[tokio::test]
    async fn a_task_that_panicked_starts_again() {
        let (stop, stopped) = watch::channel(false);
        let starts = std::sync::atomic::AtomicU32::new(0);
        until_stopped(stopped, "task", PartitionId(0), || async {
            match starts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => panic!("once"),
                _ => stop.send_replace(true),
            };
            Ok::<(), WorkerError>(())
        })
        .await;
        assert_eq!(starts.into_inner(), 2);
    }
}

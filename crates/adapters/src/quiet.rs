//! Threads that leave the processor to others.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

/// The priority of quiet threads: they get a tenth of a core that another thread wants, too.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for work that nobody waits for in milliseconds. As much waits as callers give them. To drop
/// it waits until they have done that: a library in one of them must not see the process end.
#[derive(Debug)]
pub(crate) struct Quiet {
    /// `None` while it is dropped.
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        self.jobs = None;
        // A job may have held the last reference: its thread ends by itself.
        let this = thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != this) {
            let _panicked = thread.join();
        }
    }
}

impl Quiet {
    /// Starts so many threads.
    pub(crate) fn new(name: &str, threads: usize) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job>();
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |_| {
            let waiting = waiting.clone();
            let next = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            thread::Builder::new().name(name.to_owned()).spawn(move || {
                lower_priority();
                while let Ok(job) = next() {
                    // Whoever waits for it learns that it has ended.
                    let _panicked = catch_unwind(AssertUnwindSafe(job));
                }
            })
        };
        let threads = (0..threads).map(start).collect::<io::Result<_>>()?;
        Ok(Self { jobs: Some(jobs), threads })
    }

    /// Runs `act` on one of the threads. It goes on if the caller goes away. Returns `None` if it
    /// panics.
    pub(crate) async fn run<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let job = move || {
            let _caller_has_gone = sender.send(act());
        };
        self.jobs.as_ref()?.send(Box::new(job)).ok()?;
        receiver.await.ok()
    }
}

/// Returns how many cores there are.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Linux has a priority for each thread. Elsewhere it would be that of the process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!("a thread keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_thread_outlives_a_panic() {
        let quiet = Quiet::new("quiet", 1).unwrap();
        assert_eq!(quiet.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(quiet.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn a_job_may_hold_the_last_reference() {
        let quiet = Arc::new(Quiet::new("quiet", 2).unwrap());
        let (go, wait) = mpsc::channel();
        let (sender, ended) = oneshot::channel();
        let job = {
            let quiet = quiet.clone();
            move || {
                wait.recv().unwrap();
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(quiet)));
                let _test_has_failed = sender.send(dropped.is_ok());
            }
        };
        quiet.jobs.as_ref().unwrap().send(Box::new(job)).unwrap();
        drop(quiet);
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok(true), "it does not wait for its own thread");
    }
}

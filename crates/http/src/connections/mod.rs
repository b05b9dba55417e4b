//! Connections of one port: accepted up to a bound, closed when they are idle or stuck, drained at the end.
//!
//! `axum::serve` has neither timeouts nor bounds, so a client that sends nothing, or reads nothing, would keep its connection
//! for as long as it likes, and enough of them take every file descriptor of the process.

mod admission;
mod io;

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::serve::Shape;
use admission::{Admission, Ticket};
use io::{Activity, Watched};

/// How much of a request's head is held, and of a response that the client does not read. A header `Last-Event-ID` with the
/// positions of 1,024 partitions fits.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How often it is logged that connections cannot be accepted.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How many connections a port has at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Of all clients together.
    pub connections_max: usize,
    /// Of one address (of one /64 in IPv6). Loopback is exempt: there the clients of a proxy on this machine are one address.
    pub per_address_max: usize,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the connection to the end of the first request's head.
    pub first_head: Duration,
    /// From an answer to the end of the next request's head.
    pub idle: Duration,
    /// Without the client reading any of what is sent.
    pub stalled: Duration,
    /// The same, once the server is told to stop.
    pub stalled_at_stop: Duration,
    /// For requests under way, once the server is told to stop.
    pub drain: Duration,
    /// Before the next attempt when a connection could not be accepted.
    pub accept_again: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            first_head: Duration::from_secs(10),
            // Longer than the 60 s of common proxies: who closes first must be the proxy, or its next request is lost.
            idle: Duration::from_secs(75),
            stalled: Duration::from_secs(30),
            stalled_at_stop: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            accept_again: Duration::from_millis(200),
        }
    }
}

/// What is served on a port, and how.
#[derive(Clone, Debug)]
pub struct Port {
    /// The value of the label `port` of the metrics.
    pub name: &'static str,
    /// Of the answer to a connection too many.
    pub shape: Shape,
    /// How many connections.
    pub limits: ConnectionLimits,
    /// How long they may take.
    pub times: Times,
}

/// Where connections come from.
pub trait Accept: Send + 'static {
    /// The next connection.
    fn accept(&self) -> impl Future<Output = Result<(TcpStream, SocketAddr), Error>> + Send;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = Result<(TcpStream, SocketAddr), Error>> + Send {
        TcpListener::accept(self)
    }
}

/// Serves until told to stop. Then idle connections are closed at once, requests under way are finished within
/// [`Times::drain`], and clients that do not read are given [`Times::stalled_at_stop`].
pub async fn serve(listener: impl Accept, router: Router, port: Port, mut stopped: watch::Receiver<bool>) {
    let (connections, times) = (TaskTracker::new(), port.times);
    let admission = Arc::new(Admission::new(port.name, port.limits));
    let service = TowerToHyperService::new(router);
    let mut failures = Failures { port: port.name, logged: None, unlogged: 0 };
    loop {
        let accepted = tokio::select! {
            // Asked first: whoever was told to stop accepts nothing more.
            biased;
            () = told(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match admission.admit(peer.ip()) {
                Ok(ticket) => {
                    let requests = Requests { service: service.clone(), activity: Arc::default(), peer };
                    connections.spawn(converse(stream, requests, times, stopped.clone(), ticket));
                }
                Err(refusal) => {
                    if let Some(linger) = refusal.say(stream, port.shape) {
                        connections.spawn(linger);
                    }
                }
            },
            Err(error) if is_of_the_connection(&error) => {}
            // No descriptors, most likely. The connection waits in the kernel's queue, so another attempt at once would fail
            // again, and take all of a processor.
            Err(error) => {
                failures.count(&error);
                let _stopped = timeout(times.accept_again, told(&mut stopped)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(times.drain, connections.wait()).await.is_err() {
        tracing::warn!(port = port.name, left = connections.len(), "requests that would not end were cut off");
    }
}

/// The client is gone before it was there.
fn is_of_the_connection(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Connections that could not be accepted: each is counted, and now and then one is logged.
struct Failures {
    port: &'static str,
    logged: Option<Instant>,
    unlogged: u64,
}

impl Failures {
    fn count(&mut self, error: &Error) {
        counter!("uss_accept_errors_total", "port" => self.port).increment(1);
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let (port, before) = (self.port, std::mem::take(&mut self.unlogged));
        self.logged = Some(Instant::now());
        tracing::error!(%error, port, before, "connections cannot be accepted; raise the limit of open files (ulimit -n)");
    }
}

/// One connection, from its first request to its end.
async fn converse(
    stream: TcpStream,
    requests: Requests,
    times: Times,
    mut stopped: watch::Receiver<bool>,
    _ticket: Ticket,
) {
    // Small answers must not wait for more to come.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    let activity = requests.activity.clone();
    let stream = TokioIo::new(Watched::new(stream, activity.clone(), times));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.idle)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(stream, requests);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        () = told(&mut stopped) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            activity.stop();
            connection.as_mut().graceful_shutdown();
            // That it was cut off is logged by who waits for all connections.
            timeout(times.drain, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Returns when the server is told to stop.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _who_could_tell_is_gone = stopped.wait_for(|stop| *stop).await;
}

/// Hands on the requests of one connection, with who sends them: ingestion lets no one client take all of its capacity.
struct Requests {
    service: TowerToHyperService<Router>,
    activity: Arc<Activity>,
    peer: SocketAddr,
}

impl Service<Request<Incoming>> for Requests {
    type Response = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Response;
    type Error = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Error;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.activity.request();
        request.extensions_mut().insert(ConnectInfo(self.peer));
        self.service.call(request)
    }
}

//! The connections of one port: limits their number, closes idle and stuck ones, makes room for new
//! ones, and drains them at a stop.
//!
//! `axum::serve` has neither timeouts nor limits. A client that sends or reads nothing could keep
//! its connection for any time, and enough of them would take every file descriptor of the process.

mod admission;
mod io;
mod under_way;

use std::convert::Infallible;
use std::future::Future;
use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
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
use admission::{Admission, Closing, Ticket};
use io::{Activity, Watched};
use under_way::{UnderWay, Until};

/// The buffer for a request's head, and for a response that the client does not read. A header
/// `Last-Event-ID` with the positions of 1,024 partitions fits.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The least time between two log lines about failing accepts.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The most connections of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// For all clients together.
    pub connections_max: usize,
    /// For one address (one /64 in IPv6). Loopback is exempt, because there all clients of a local
    /// proxy have one address.
    pub per_address_max: usize,
}

/// The time limits of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// From the connection to the end of the first request's head.
    pub first_head: Duration,
    /// From a response to the end of the next request's head.
    pub idle: Duration,
    /// While the client reads nothing of what is sent.
    pub stalled: Duration,
    /// The same after a stop.
    pub stalled_at_stop: Duration,
    /// For running requests after a stop.
    pub drain: Duration,
    /// Before the next attempt after a failed accept.
    pub accept_again: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            first_head: Duration::from_secs(10),
            // Longer than the 60 s of common proxies. The proxy must close first, or its next
            // request is lost.
            idle: Duration::from_secs(75),
            stalled: Duration::from_secs(30),
            stalled_at_stop: Duration::from_secs(2),
            drain: Duration::from_secs(10),
            accept_again: Duration::from_millis(200),
        }
    }
}

/// A port's name, limits and times.
#[derive(Clone, Debug)]
pub struct Port {
    /// The value of the metrics' label `port`.
    pub name: &'static str,
    /// The shape of the error that a refused connection gets.
    pub shape: Shape,
    /// How many connections the port takes.
    pub limits: ConnectionLimits,
    /// How long the connections may take.
    pub times: Times,
}

/// A source of connections.
pub trait Accept: Send + 'static {
    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = Result<(TcpStream, SocketAddr), Error>> + Send;
}

impl Accept for TcpListener {
    fn accept(&self) -> impl Future<Output = Result<(TcpStream, SocketAddr), Error>> + Send {
        TcpListener::accept(self)
    }
}

/// Serves until `stopped` is true. Then it closes idle connections at once, finishes running
/// requests within [`Times::drain`], and gives clients that do not read [`Times::stalled_at_stop`].
pub async fn serve(listener: impl Accept, router: Router, port: Port, mut stopped: watch::Receiver<bool>) {
    let (connections, times) = (TaskTracker::new(), port.times);
    let admission = Arc::new(Admission::new(port.name, port.limits));
    let service = TowerToHyperService::new(router);
    let mut failures = Failures { port: port.name, logged: None, unlogged: 0 };
    loop {
        let accepted = tokio::select! {
            // Checked first, so that nothing is accepted after a stop.
            biased;
            () = wait_for_stop(&mut stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match admission.admit(peer.ip()) {
                Ok((ticket, closing)) => {
                    let ticket = Arc::new(ticket);
                    let requests = Requests { service: service.clone(), activity: Arc::default(), ticket, peer };
                    connections.spawn(serve_connection(stream, requests, times, stopped.clone(), closing));
                }
                Err(refusal) => {
                    if let Some(linger) = refusal.respond(stream, port.shape) {
                        connections.spawn(linger);
                    }
                }
            },
            Err(error) if is_of_the_connection(&error) => {}
            // Most likely no descriptors are left. The connection waits in the kernel's queue, so
            // an immediate retry would fail again and keep a processor busy.
            Err(error) => {
                failures.count(&error);
                let _stopped = timeout(times.accept_again, wait_for_stop(&mut stopped)).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(times.drain, connections.wait()).await.is_err() {
        tracing::warn!(port = port.name, left = connections.len(), "cut off requests that did not end in time");
    }
}

/// Whether the client has gone before its connection was accepted.
fn is_of_the_connection(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
}

/// Failed accepts. Each is counted, but only some are logged.
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
        tracing::error!(%error, port, before, "could not accept a connection: raise the limit of open files (ulimit -n)");
    }
}

/// Serves one connection from its first request to its end.
async fn serve_connection(
    stream: TcpStream,
    requests: Requests,
    times: Times,
    mut stopped: watch::Receiver<bool>,
    closing: Closing,
) {
    // Dropped after the stream is closed.
    let _ticket = requests.ticket.clone();
    let mut _permit = None;
    // Small responses must not wait for more data.
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
        () = wait_for_stop(&mut stopped) => None,
        permit = closing => {
            _permit = permit.ok();
            None
        }
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            activity.stop();
            connection.as_mut().graceful_shutdown();
            // `serve` logs the connections that were cut off.
            timeout(times.drain, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Returns when the server stops.
async fn wait_for_stop(stopped: &mut watch::Receiver<bool>) {
    let _sender_dropped = stopped.wait_for(|stop| *stop).await;
}

/// Forwards the requests of one connection with the client's address, which ingestion needs to
/// share its capacity between clients.
struct Requests {
    service: TowerToHyperService<Router>,
    activity: Arc<Activity>,
    ticket: Arc<Ticket>,
    peer: SocketAddr,
}

impl Service<Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.activity.request();
        let under_way = UnderWay::new(self.ticket.clone());
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let response = self.service.call(request);
        Box::pin(async move { Ok(response.await?.map(|body| Body::new(Until::sent(body, under_way)))) })
    }
}

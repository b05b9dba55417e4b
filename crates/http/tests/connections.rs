//! Connections over real sockets: their limits, the end of idle and stuck ones, and the stop of a
//! port.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uss_http::connections::{Accept, ConnectionLimits, Port, Times, serve};
use uss_http::serve::{Shape, finish};

/// So long that it never passes in a test.
const NEVER: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(50);
const REQUEST: &[u8] = b"GET /quick HTTP/1.1\r\nhost: localhost\r\n\r\n";

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    /// Lets `/slow` respond.
    release: Arc<Notify>,
    /// The number of requests that have reached `/slow`.
    slow: watch::Receiver<usize>,
}

fn patient() -> Times {
    Times { first_head: NEVER, idle: NEVER, stalled: NEVER, stalled_at_stop: NEVER, drain: NEVER, accept_again: NEVER }
}

async fn start(connections_max: usize, times: Times) -> Server {
    let release = Arc::new(Notify::new());
    let (reached, slow) = watch::channel(0);
    let wait = release.clone();
    let router = Router::new()
        .route("/quick", get(|| async { "done" }))
        .route("/who", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/endless", get(|| async { Body::from_stream(futures_util::stream::repeat_with(endless_piece)) }))
        .route(
            "/slow",
            get(move || async move {
                reached.send_modify(|reached| *reached += 1);
                wait.notified().await;
                "done"
            }),
        );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let limits = ConnectionLimits { connections_max, per_address_max: 1 };
    let port = Port { name: "test", shape: Shape::Configuration, limits, times };
    let serving = tokio::spawn(serve(listener, finish(router, Shape::Configuration), port, stopped));
    Server { address, stop, serving, release, slow }
}

fn endless_piece() -> Result<Vec<u8>, Error> {
    Ok(vec![b'x'; 16 * 1024])
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes and returns what comes until the connection ends.
    async fn response_to(&self, sent: &[u8]) -> String {
        let mut client = self.connect().await;
        client.write_all(sent).await.unwrap();
        end_of(client).await
    }
}

/// Returns what comes until the server closes or resets the connection.
async fn end_of(mut client: TcpStream) -> String {
    let (mut response, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = client.read(&mut piece).await {
        response.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(response).unwrap()
}

/// Sends a request and returns the response.
async fn request(client: &mut TcpStream) -> String {
    client.write_all(REQUEST).await.unwrap();
    response_of(client).await
}

/// Returns a response that ends with `done`.
async fn response_of(client: &mut TcpStream) -> String {
    let mut response = Vec::new();
    while !response.ends_with(b"done") {
        response.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(response).unwrap()
}

#[tokio::test]
async fn a_client_that_sends_no_request_is_disconnected() {
    let server = start(100, Times { first_head: SOON, ..patient() }).await;
    assert_eq!(server.response_to(b"").await, "", "no bytes");
    assert_eq!(server.response_to(b"GET /quick HTTP/1.1\r\nhost: localhost\r\n").await, "", "half a head");
    let mut dripping = server.connect().await;
    // The loop ends with an error when the server closes the connection.
    while dripping.write_all(b"GET /quick HTTP/1.1\r\nx: y\r\n").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(
        server.response_to(&[REQUEST, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n"].concat()).await.contains("done")
    );
}

#[tokio::test]
async fn a_client_may_wait_before_its_next_request() {
    let server = start(100, Times { first_head: SOON, idle: NEVER, ..patient() }).await;
    let mut client = server.connect().await;
    request(&mut client).await;
    // In the time that this connection may wait, the server closes later connections without
    // requests.
    for _ in 0..3 {
        server.response_to(b"").await;
    }
    assert!(request(&mut client).await.starts_with("HTTP/1.1 200"));

    let server = start(100, Times { idle: SOON, ..patient() }).await;
    let response = server.response_to(REQUEST).await;
    assert!(response.ends_with("done"), "{response}");
    assert!(server.response_to(&[REQUEST, b"GET /qui"].concat()).await.contains("done"), "half of a second head");
}

#[tokio::test]
async fn handlers_know_the_address_of_the_client() {
    let server = start(1, patient()).await;
    let mut client = server.connect().await;
    let own = client.local_addr().unwrap().to_string();
    client.write_all(b"GET /who HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
    let response = end_of(client).await;
    assert!(response.ends_with(&own), "{response} to {own}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_disconnected() {
    let server = start(1, Times { stalled: SOON, ..patient() }).await;
    let mut stalled_client = server.connect().await;
    stalled_client.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    // After that another connection is admitted.
    loop {
        let response = server.response_to(b"GET /quick HTTP/1.1\r\nconnection: close\r\n\r\n").await;
        if response.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    }
}

#[tokio::test]
async fn a_connection_over_the_limit_gets_an_error_while_all_others_have_requests() {
    let mut server = start(1, patient()).await;
    let mut busy = server.connect().await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    server.slow.wait_for(|reached| *reached == 1).await.unwrap();
    let response = server.response_to(REQUEST).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    for part in ["retry-after: 1\r\n", "\"TOO_MANY_CONNECTIONS\"", "USS_CONNECTIONS_MAX", "\"data\":null"] {
        assert!(response.contains(part), "{part}: {response}");
    }
    server.release.notify_one();
    assert!(response_of(&mut busy).await.starts_with("HTTP/1.1 200"), "the request under way goes on");
}

#[tokio::test]
async fn idle_clients_make_room_for_new_ones() {
    let mut server = start(4, patient()).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    server.slow.wait_for(|reached| *reached == 1).await.unwrap();
    // Idle after a response, before a first request, and in the midst of the head of a later one.
    let mut after = server.connect().await;
    request(&mut after).await;
    let before = server.connect().await;
    let mut midst = server.connect().await;
    request(&mut midst).await;
    midst.write_all(b"GET /qui").await.unwrap();
    let mut newer = Vec::new();
    for _ in 0..3 {
        let mut client = server.connect().await;
        assert!(request(&mut client).await.starts_with("HTTP/1.1 200"));
        newer.push(client);
    }
    for idle in [after, before, midst] {
        assert_eq!(end_of(idle).await, "", "closed without a response");
    }
    // Whoever sent a request last is closed last.
    request(&mut newer[0]).await;
    assert!(request(&mut server.connect().await).await.starts_with("HTTP/1.1 200"));
    assert_eq!(end_of(newer.remove(1)).await, "");
    assert!(request(&mut newer[0]).await.starts_with("HTTP/1.1 200"));
    server.release.notify_one();
    assert!(response_of(&mut slow).await.starts_with("HTTP/1.1 200"), "the request under way was left alone");
}

#[tokio::test]
async fn a_response_that_is_being_sent_is_not_cut_off_for_a_new_client() {
    let server = start(1, patient()).await;
    let mut reading = server.connect().await;
    reading.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    reading.read_u8().await.unwrap();
    assert!(server.response_to(REQUEST).await.starts_with("HTTP/1.1 503"));
    let mut more = vec![0; 4 << 20];
    reading.read_exact(&mut more).await.unwrap();
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_finishes_running_requests() {
    let mut server = start(1_000, Times { stalled_at_stop: SOON, ..patient() }).await;
    let mut idle = Vec::new();
    for number in 0..400 {
        let mut client = server.connect().await;
        match number % 4 {
            0 => {}
            1 => client.write_all(b"GET /quick HT").await.unwrap(),
            2 => client.write_all(b"GET /endless HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap(),
            _ => drop(request(&mut client).await),
        }
        idle.push(client);
    }
    let mut slow = server.connect().await;
    slow.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    server.slow.wait_for(|reached| *reached == 1).await.unwrap();
    server.stop.send_replace(true);
    for (number, client) in idle.into_iter().enumerate().filter(|(number, _)| number % 4 != 2) {
        // Connections in the kernel's queue are closed with it.
        let rest = end_of(client).await;
        assert_eq!(rest, "", "{number}");
    }
    server.release.notify_one();
    let response = end_of(slow).await;
    assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("done"), "{response}");
    server.serving.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_a_stop() {
    let mut server = start(10, Times { drain: SOON, ..patient() }).await;
    let mut client = server.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    server.slow.wait_for(|reached| *reached == 1).await.unwrap();
    server.stop.send_replace(true);
    server.serving.await.unwrap();
    assert_eq!(end_of(client).await, "");
}

/// A listener whose process runs out of descriptors for some calls.
struct Failing {
    listener: TcpListener,
    failures: AtomicUsize,
    calls: Arc<watch::Sender<usize>>,
}

impl Accept for Failing {
    async fn accept(&self) -> Result<(TcpStream, SocketAddr), Error> {
        const EMFILE: i32 = 24;
        self.calls.send_modify(|calls| *calls += 1);
        let is_failing = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if is_failing.is_ok() {
            return Err(Error::from_raw_os_error(EMFILE));
        }
        self.listener.accept().await
    }
}

#[tokio::test]
async fn without_descriptors_it_waits_and_accepts_again() {
    let port = |accept_again| Port {
        name: "test",
        shape: Shape::Ingestion,
        limits: ConnectionLimits { connections_max: 1, per_address_max: 1 },
        times: Times { accept_again, ..patient() },
    };
    let router = Router::new().route("/quick", get(|| async { "done" }));
    let listener = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener_of_some = listener().await;
    let address = listener_of_some.local_addr().unwrap();
    let calls = Arc::new(watch::Sender::new(0));
    let some = Failing { listener: listener_of_some, failures: AtomicUsize::new(3), calls: calls.clone() };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(some, router.clone(), port(SOON), stopped));
    assert!(request(&mut TcpStream::connect(address).await.unwrap()).await.starts_with("HTTP/1.1 200"));
    stop.send_replace(true);
    serving.await.unwrap();
    assert!(*calls.borrow() >= 4);

    // It does not retry before the time, but it notices a stop.
    let calls = Arc::new(watch::Sender::new(0));
    let all = Failing { listener: listener().await, failures: AtomicUsize::new(usize::MAX), calls: calls.clone() };
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(serve(all, router, port(NEVER), stopped));
    calls.subscribe().wait_for(|calls| *calls == 1).await.unwrap();
    stop.send_replace(true);
    serving.await.unwrap();
    assert_eq!(*calls.borrow(), 1);
}

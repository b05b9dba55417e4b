//! Sends single events over many connections, at a fixed rate or as fast as the server responds.
//!
//! It writes requests as bytes and reads only the length of responses, because the client shares
//! the cores with the server it measures: an HTTP library would take a third of them.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Result;

/// A connection that is kept alive.
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    request: Vec<u8>,
    response: Vec<u8>,
}

impl Connection {
    /// Connects to `http://address:port`.
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let host = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host, request: Vec::new(), response: Vec::new() })
    }

    /// Posts one event, and waits for the response that it was accepted.
    pub(crate) async fn post(&mut self, event: &str) -> Result<()> {
        let (host, length) = (&self.host, event.len());
        let head = format!(
            "POST /api/v1/events HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        self.request.clear();
        self.request.extend_from_slice(head.as_bytes());
        self.request.extend_from_slice(event.as_bytes());
        self.stream.write_all(&self.request).await?;
        self.response.clear();
        while !is_whole(&self.response) {
            if self.stream.read_buf(&mut self.response).await? == 0 {
                return Err("the server closed the connection".into());
            }
        }
        if self.response.starts_with(b"HTTP/1.1 200 ") {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&self.response).into_owned().into())
    }
}

/// Returns whether a response has all its bytes.
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| response.len() >= end + 4 + length)
}

async fn connections(address: &str, count: usize) -> Result<Vec<Connection>> {
    try_join_all((0..count).map(|_| Connection::open(address))).await
}

/// Returns the events per second if each connection sends the next event when it has the response
/// to its last.
pub(crate) async fn closed_loop(
    address: &str,
    count: usize,
    duration: Duration,
    events: impl Fn(usize) -> Box<dyn FnMut() -> String>,
) -> Result<f64> {
    let connections = connections(address, count).await?;
    let started = Instant::now();
    let senders = connections.into_iter().enumerate().map(|(number, mut connection)| {
        let mut next = events(number);
        async move {
            let mut accepted = 0_u64;
            while started.elapsed() < duration {
                connection.post(&next()).await?;
                accepted += 1;
            }
            Result::Ok(accepted)
        }
    });
    let accepted: u64 = try_join_all(senders).await?.into_iter().sum();
    Ok(accepted as f64 / started.elapsed().as_secs_f64())
}

/// Sends events at a fixed rate, and returns the time of each from the instant at which it *should*
/// have been sent to its response. So a stall of the server counts for all events that should have
/// been sent meanwhile.
pub(crate) async fn at_rate(
    address: &str,
    count: usize,
    per_second: f64,
    duration: Duration,
    mut next: impl FnMut() -> String,
) -> Result<Vec<Duration>> {
    let total = (per_second * duration.as_secs_f64()) as usize;
    let mut shares: Vec<Vec<(Duration, String)>> = vec![Vec::new(); count];
    for number in 0..total {
        shares[number % count].push((Duration::from_secs_f64(number as f64 / per_second), next()));
    }
    let connections = connections(address, count).await?;
    let started = Instant::now();
    let senders = connections.into_iter().zip(shares).map(|(mut connection, share)| async move {
        let mut times = Vec::with_capacity(share.len());
        for (due, event) in share {
            tokio::time::sleep_until((started + due).into()).await;
            connection.post(&event).await?;
            times.push((started + due).elapsed());
        }
        Result::Ok(times)
    });
    Ok(try_join_all(senders).await?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";
        assert!(is_whole(response));
        assert!((0..response.len()).all(|end| !is_whole(&response[..end])));
    }
}

//! A subscriber of the live transitions that notes when it read each.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use segment_engine::time::Timestamp;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::Result;
use crate::server::Server;

/// A notification, and when the subscriber read it. All instants are microseconds of the same
/// clock.
pub(crate) struct Seen {
    /// `event`, `time` and so on.
    pub cause: String,
    /// For an event, the instant of its append; for a deadline, the deadline.
    pub effective_at: i64,
    /// When the transition was emitted.
    pub at: i64,
    /// When the subscriber read it.
    pub read: i64,
}

impl Seen {
    /// Returns the time from the cause to the notification.
    pub(crate) fn emitted_after(&self) -> Duration {
        between(self.effective_at, self.at)
    }

    /// Returns the time from the cause to the subscriber.
    pub(crate) fn read_after(&self) -> Duration {
        between(self.effective_at, self.read)
    }
}

/// Returns the time between two instants; zero if the second is before the first.
pub(crate) fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}

/// Reads the stream in the background.
pub(crate) struct Subscriber(JoinHandle<Vec<(i64, String)>>, tokio::sync::oneshot::Sender<()>);

#[derive(Deserialize)]
struct Notification {
    cause: String,
    effective_at: String,
    at: String,
}

impl Subscriber {
    /// Subscribes to transitions from now on.
    pub(crate) async fn start(server: &Server) -> Result<Self> {
        let url = format!("{}/api/v1/transitions/stream", server.configuration);
        let response = reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.error_for_status()?;
        let (over, mut stop) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(async move {
            let mut stream = response.bytes_stream();
            let (mut seen, mut line) = (Vec::new(), Vec::new());
            // Lines are parsed afterwards, so that parsing does not delay the next read.
            loop {
                let piece = tokio::select! {
                    piece = stream.next() => piece,
                    _ = &mut stop => None,
                };
                let Some(Ok(piece)) = piece else { return seen };
                let read = now();
                for part in piece.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(part);
                    if line.ends_with(b"\n") {
                        if let Some(data) = line.strip_prefix(b"data: ") {
                            seen.push((read, String::from_utf8_lossy(data).into_owned()));
                        }
                        line.clear();
                    }
                }
            }
        });
        Ok(Self(reading, over))
    }

    /// Ends the subscription and returns what was read.
    pub(crate) async fn finish(self) -> Result<Vec<Seen>> {
        let Self(reading, over) = self;
        let _ended_already = over.send(());
        let lines = reading.await?;
        lines.into_iter().map(|(read, line)| parse(read, &line)).collect()
    }
}

fn parse(read: i64, line: &str) -> Result<Seen> {
    let Notification { cause, effective_at, at } = serde_json::from_str(line)?;
    let micros = |text: &str| Timestamp::parse(text).map(|at| at.0).ok_or_else(|| format!("`{text}` is not a time"));
    Ok(Seen { effective_at: micros(&effective_at)?, at: micros(&at)?, cause, read })
}

/// Returns the time of the system clock, which the server reads too, in microseconds.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

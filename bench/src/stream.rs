//! A subscriber of the live transitions, and what it saw when.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use segment_engine::time::Timestamp;
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::Result;
use crate::server::Server;

/// A notification, and when the subscriber had it. All instants are microseconds of the one machine's clock.
pub struct Seen {
    /// What caused it: `event`, `time`…
    pub cause: String,
    /// Since when it holds: for an event, when the log took it; for a deadline, the deadline.
    pub effective_at: i64,
    /// When it was told.
    pub at: i64,
    /// When the subscriber had read it.
    pub read: i64,
}

impl Seen {
    /// From the cause to the line in the log of transitions.
    pub fn told_after(&self) -> Duration {
        between(self.effective_at, self.at)
    }

    /// From the cause to the subscriber.
    pub fn seen_after(&self) -> Duration {
        between(self.effective_at, self.read)
    }
}

/// From one instant to another; none if it is before.
pub fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}

/// Reads the stream while other things happen.
pub struct Subscriber(JoinHandle<Vec<(i64, String)>>, tokio::sync::oneshot::Sender<()>);

#[derive(Deserialize)]
struct Notification {
    cause: String,
    effective_at: String,
    at: String,
}

impl Subscriber {
    /// Begins with what is told from now on.
    pub async fn start(server: &Server) -> Result<Self> {
        let url = format!("{}/api/v1/transitions/stream", server.configuration);
        let answer = reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.error_for_status()?;
        let (over, mut stop) = tokio::sync::oneshot::channel();
        let reading = tokio::spawn(async move {
            let mut stream = answer.bytes_stream();
            let (mut seen, mut line) = (Vec::new(), Vec::new());
            // Only what came when is noted here; it is understood afterwards, so as not to delay the next.
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

    /// Ends the subscription and answers what was seen.
    pub async fn finish(self) -> Result<Vec<Seen>> {
        let Self(reading, over) = self;
        let _ended_already = over.send(());
        let lines = reading.await?;
        lines.into_iter().map(|(read, line)| understand(read, &line)).collect()
    }
}

fn understand(read: i64, line: &str) -> Result<Seen> {
    let Notification { cause, effective_at, at } = serde_json::from_str(line)?;
    let micros = |text: &str| Timestamp::parse(text).map(|at| at.0).ok_or_else(|| format!("`{text}` is no time"));
    Ok(Seen { effective_at: micros(&effective_at)?, at: micros(&at)?, cause, read })
}

/// The machine's clock, as the server reads it.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

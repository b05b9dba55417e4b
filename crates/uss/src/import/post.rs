//! Posts batches of events to the ingestion API.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::StreamExt;
use indicatif::ProgressBar;
use reqwest::{StatusCode, header};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::bytes::Bytes;

use super::rejected::{Rejected, RejectedRow};
use super::{ImportArgs, ImportError};

/// Events in one request.
const BATCH_EVENTS_MAX: usize = 5_000;
/// Bytes in one request, not counting the last event.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes of rows that are kept for one request, not counting the last row.
const BATCH_ROW_BYTES_MAX: usize = 4 << 20;
/// Concurrent requests: the API reads one, syncs one, and two are on the network.
const REQUESTS_MAX: usize = 4;
/// The most tries for a batch: with the pauses, two minutes; five if each try waits for the API.
const TRIES_MAX: u32 = 20;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(8);
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);

/// Events that are posted in one request, as lines of JSON.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    text: String,
    rows: Vec<SentRow>,
    /// Bytes of the rows, counted apart because the event of a long row may be short.
    row_bytes: usize,
}

/// The row of an event, kept until the API has accepted the event.
#[derive(Clone, Debug)]
struct SentRow {
    /// The number of the line, from 1.
    line: u64,
    /// The row as it is in the file.
    text: String,
    /// The end of its event in the batch's text.
    end: usize,
}

impl Batch {
    /// Adds the event of a row.
    pub(crate) fn push(&mut self, line: u64, row: String, event: &str) {
        self.text.push_str(event);
        self.text.push('\n');
        self.row_bytes += row.len();
        self.rows.push(SentRow { line, text: row, end: self.text.len() });
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_EVENTS_MAX
            || self.text.len() >= BATCH_BYTES_MAX
            || self.row_bytes >= BATCH_ROW_BYTES_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns a batch of the events with these indexes, in order.
    fn only(&self, indexes: impl Iterator<Item = usize>) -> Batch {
        let mut part = Batch::default();
        for index in indexes.filter(|index| *index < self.rows.len()) {
            let start = if index == 0 { 0 } else { self.rows[index - 1].end };
            let SentRow { line, text, end } = self.rows[index].clone();
            part.push(line, text, self.text[start..end].trim_end_matches('\n'));
        }
        part
    }
}

/// The response of the API to a batch.
#[derive(Debug, Deserialize)]
struct BatchResponse {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<Refused>,
    #[serde(default)]
    not_admitted: Vec<Refused>,
    not_read_from: Option<usize>,
}

/// An event of a batch that was not accepted.
#[derive(Debug, Deserialize)]
struct Refused {
    index: usize,
    code: String,
    message: String,
}

/// The outcome of one batch.
#[derive(Debug, Default)]
struct Posted {
    accepted: u64,
    rejected: Vec<(SentRow, Refused)>,
}

/// The result of one try.
enum Try {
    Done(BatchResponse),
    /// Why the batch must be sent again, and the shortest pause before that.
    Retry(String, Duration),
    Failed(String),
}

pub(crate) struct Poster {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    /// Whether the current wait for the API has been reported.
    wait_reported: AtomicBool,
}

impl Poster {
    /// Makes a client of the API that the arguments name.
    pub(crate) fn new(args: &ImportArgs) -> Result<Self, ImportError> {
        let users = if args.known_users_only { "reject" } else { "create" };
        let url = format!("{}/api/v1/events?unknown_users={users}&dedupe_forever=true", args.url.trim_end_matches('/'));
        let client = reqwest::Client::builder().timeout(RESPONSE_TIME_MAX).build();
        let client = client.map_err(|error| ImportError::Api(error.to_string()))?;
        Ok(Self { client, url, key: args.key.clone(), wait_reported: AtomicBool::new(false) })
    }

    /// Posts all batches, several at a time. Their order does not matter, since events carry their
    /// times.
    pub(crate) async fn post_all(
        &self,
        file: &Path,
        batches: mpsc::Receiver<Batch>,
        bar: &ProgressBar,
        rejected_rows: &Rejected,
        accepted_events: &mut u64,
    ) -> Result<(), ImportError> {
        let before = *accepted_events;
        let batches = futures_util::stream::unfold(batches, |mut batches| async {
            batches.recv().await.map(|batch| (batch, batches))
        });
        let mut posted = std::pin::pin!(batches.map(|batch| self.post(batch, bar)).buffer_unordered(REQUESTS_MAX));
        while let Some(Posted { accepted, rejected }) = posted.next().await.transpose()? {
            *accepted_events += accepted;
            for (SentRow { line, text, .. }, Refused { code, message, .. }) in &rejected {
                rejected_rows.add(&RejectedRow { file, line: *line, code, message, text }, true)?;
            }
            let events = *accepted_events - before;
            let seconds = bar.elapsed().as_secs_f64().max(0.001);
            bar.set_message(format!("{events} events, {:.0}/s", events as f64 / seconds));
        }
        Ok(())
    }

    /// Posts a batch until each of its events is accepted or rejected. Event ids make retries
    /// idempotent.
    async fn post(&self, mut batch: Batch, bar: &ProgressBar) -> Result<Posted, ImportError> {
        let mut posted = Posted::default();
        let mut pause = PAUSE_MIN;
        for tries in 1.. {
            let (reason, wait) = match self.try_once(&batch).await {
                Try::Failed(reason) => return Err(ImportError::Api(reason)),
                Try::Retry(reason, wait) => (reason, wait),
                Try::Done(response) => {
                    self.wait_reported.store(false, Relaxed);
                    posted.accepted += response.accepted;
                    let lines = response
                        .rejected
                        .into_iter()
                        .filter_map(|refused| batch.rows.get(refused.index).map(|row| (row.clone(), refused)));
                    posted.rejected.extend(lines);
                    let unread = response.not_read_from.unwrap_or(batch.rows.len())..batch.rows.len();
                    let left = response.not_admitted.iter().map(|refused| refused.index).chain(unread);
                    let rest = batch.only(left);
                    if rest.is_empty() {
                        return Ok(posted);
                    }
                    batch = rest;
                    let reason =
                        response.not_admitted.first().map_or("the API read only a part", |refused| &refused.message);
                    (reason.to_owned(), Duration::ZERO)
                }
            };
            if tries == TRIES_MAX {
                let advice =
                    "events that were sent stay; import again when the service is healthy, no event counts twice";
                return Err(ImportError::Api(format!("gave up after {tries} tries: {reason}; {advice}")));
            }
            self.report_wait(&reason, bar);
            tokio::time::sleep(pause.max(wait).min(PAUSE_MAX)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
        Ok(posted)
    }

    /// Reports once why the import waits: two minutes of silence would look like work.
    fn report_wait(&self, reason: &str, bar: &ProgressBar) {
        if !self.wait_reported.swap(true, Relaxed) {
            // A closed standard error does not end the import.
            bar.suspend(|| drop(writeln!(std::io::stderr(), "waiting to try again: {reason}")));
        }
    }

    async fn try_once(&self, batch: &Batch) -> Try {
        let body = Bytes::copy_from_slice(batch.text.as_bytes());
        let mut request = self.client.post(&self.url).header(header::CONTENT_TYPE, "application/x-ndjson").body(body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Try::Failed(format!("{}: {error}; correct --url", self.url)),
            Err(error) => return Try::Retry(format!("{} cannot be reached: {error}", self.url), Duration::ZERO),
        };
        let status = response.status();
        let seconds = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(seconds.unwrap_or(0));
        let text = response.text().await.unwrap_or_default();
        if status.is_server_error() || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) {
            return Try::Retry(format!("{status}: {text}"), wait);
        }
        if !status.is_success() {
            return Try::Failed(format!("{} responded with {status}: {text}", self.url));
        }
        match serde_json::from_str(&text) {
            Ok(response) => Try::Done(response),
            Err(_) => Try::Failed(format!("{} does not respond like the ingestion API; correct --url", self.url)),
        }
    }
}

//! `uss topic tail`: prints the records of a topic of a running service, one JSON object per line.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Service, ServiceError};

/// Records per request: the most that the API returns.
const PAGE_MAX: usize = 1_000;

/// How often `--follow` polls: one small request, whatever the number of partitions.
const POLL: Duration = Duration::from_millis(250);

/// Prints records of a topic in the order in which the log appended them
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "`--help` prints it as it is")]
pub(crate) struct Tail {
    /// The topic, e.g. user_segment_notification_topic. If it does not exist, the error lists all
    /// topics
    #[arg(value_name = "NAME")]
    name: String,
    /// Print only this partition
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Print all records from this offset on, in each partition
    #[arg(long, value_name = "OFFSET", conflicts_with = "last")]
    from: Option<u64>,
    /// How many of the last records to print
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: u32,
    /// Go on with new records until interrupted
    #[arg(long)]
    follow: bool,
}

/// Why the command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    /// The service did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
    #[error("there is no topic {name}; there are: {known}")]
    UnknownTopic { name: String, known: String },
    #[error("the topic {name} has no partition {partition}; it has {count}, from 0")]
    UnknownPartition { name: String, partition: u32, count: usize },
}

#[derive(Deserialize)]
struct Topics {
    data: Vec<Topic>,
}

#[derive(Deserialize)]
struct Topic {
    name: String,
    partitions: Vec<Bounds>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounds {
    partition: u32,
    first_offset: u64,
    next_offset: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    data: Vec<Box<RawValue>>,
    next_offset: u64,
}

/// The time at which the log appended a record: RFC 3339 in UTC with microseconds, so that strings
/// sort like times.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Appended {
    appended_at: String,
}

/// Reads one partition, a page ahead.
struct Reader {
    partition: u32,
    next_offset: u64,
    /// The first offset that is not read.
    end: u64,
    ahead: VecDeque<(String, Box<RawValue>)>,
}

impl Tail {
    /// Prints the records. With `--follow` it ends only by an error.
    ///
    /// # Errors
    /// See [`TailError`].
    pub(crate) async fn run(&self, service: &Service, out: &mut dyn Write) -> Result<(), TailError> {
        let mut readers: Vec<Reader> =
            self.bounds(service).await?.into_iter().map(|bounds| self.reader(&bounds)).collect();
        let mut kept = VecDeque::new();
        while let Some(record) = self.next(service, &mut readers).await? {
            if self.from.is_some() {
                writeln!(out, "{record}")?;
                continue;
            }
            kept.push_back(record);
            if kept.len() > self.last as usize {
                kept.pop_front();
            }
        }
        for record in kept {
            writeln!(out, "{record}")?;
        }
        out.flush()?;
        if !self.follow {
            return Ok(());
        }
        loop {
            tokio::time::sleep(POLL).await;
            for (reader, bounds) in readers.iter_mut().zip(self.bounds(service).await?) {
                reader.end = bounds.next_offset;
            }
            while let Some(record) = self.next(service, &mut readers).await? {
                writeln!(out, "{record}")?;
            }
            out.flush()?;
        }
    }

    /// Returns the partitions to print, with their offsets.
    async fn bounds(&self, service: &Service) -> Result<Vec<Bounds>, TailError> {
        let Topics { data: mut topics } = service.get("/api/v1/topics").await?;
        let Some(at) = topics.iter().position(|topic| topic.name == self.name) else {
            let known = topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>().join(", ");
            return Err(TailError::UnknownTopic { name: self.name.clone(), known });
        };
        let mut partitions = topics.swap_remove(at).partitions;
        let Some(partition) = self.partition else { return Ok(partitions) };
        let count = partitions.len();
        partitions.retain(|bounds| bounds.partition == partition);
        match partitions.is_empty() {
            true => Err(TailError::UnknownPartition { name: self.name.clone(), partition, count }),
            false => Ok(partitions),
        }
    }

    fn reader(&self, bounds: &Bounds) -> Reader {
        // The last N records of all partitions are among the last N of each.
        let from = self.from.unwrap_or_else(|| bounds.next_offset.saturating_sub(u64::from(self.last)));
        Reader {
            partition: bounds.partition,
            next_offset: from.max(bounds.first_offset),
            end: bounds.next_offset,
            ahead: VecDeque::new(),
        }
    }

    /// Returns the record that the log appended first, of those that are left.
    async fn next(&self, service: &Service, readers: &mut [Reader]) -> Result<Option<Box<RawValue>>, ServiceError> {
        for reader in readers.iter_mut() {
            reader.read_ahead(service, &self.name).await?;
        }
        let first = readers.iter_mut().filter(|reader| !reader.ahead.is_empty()).min_by(|a, b| a.at().cmp(&b.at()));
        Ok(first.and_then(|reader| reader.ahead.pop_front()).map(|(_, record)| record))
    }
}

impl Reader {
    /// Returns when the log appended the next record.
    fn at(&self) -> Option<&str> {
        self.ahead.front().map(|(at, _)| at.as_str())
    }

    async fn read_ahead(&mut self, service: &Service, topic: &str) -> Result<(), ServiceError> {
        if !self.ahead.is_empty() || self.next_offset >= self.end {
            return Ok(());
        }
        let (partition, offset) = (self.partition, self.next_offset);
        let path = format!("/api/v1/topics/{topic}/records?partition={partition}&offset={offset}&limit={PAGE_MAX}");
        let page: Page = service.get(&path).await?;
        // After an empty page there are no more records.
        self.next_offset = if page.data.is_empty() { self.end } else { page.next_offset };
        self.ahead = page.data.into_iter().map(|record| (appended_at(&record), record)).collect();
        Ok(())
    }
}

fn appended_at(record: &RawValue) -> String {
    serde_json::from_str(record.get()).map_or_else(|_| String::new(), |record: Appended| record.appended_at)
}

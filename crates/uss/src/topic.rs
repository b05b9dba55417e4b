//! `uss topic tail`: the records of a topic of a running service, one JSON object a line.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Service, ServiceError};

/// Records asked for at once: the most that the API answers.
const PAGE_MAX: usize = 1_000;

/// How often it is looked whether there is more: one small request, whatever the number of partitions.
const POLL: Duration = Duration::from_millis(250);

/// Prints records of a topic in the order in which the log took them
#[derive(Clone, Debug, clap::Args)]
pub struct Tail {
    /// The topic, e.g. user_segment_notification_topic; a name that is none lists them
    #[arg(value_name = "NAME")]
    name: String,
    /// Only this partition, instead of all
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// Everything from this offset on, in each partition
    #[arg(long, value_name = "OFFSET", conflicts_with = "last")]
    from: Option<u64>,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 10)]
    last: u32,
    /// Go on with what comes, until interrupted
    #[arg(long)]
    follow: bool,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The service did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// Nobody reads what is written.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// There is no such topic.
    #[error("there is no topic {name}; there are: {known}")]
    UnknownTopic {
        /// The name asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// There is no such partition.
    #[error("the topic {name} has no partition {partition}; it has {has}, from 0")]
    UnknownPartition {
        /// The topic.
        name: String,
        /// The partition asked for.
        partition: u32,
        /// How many there are.
        has: usize,
    },
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

/// When the log took a record: RFC 3339 with microseconds in UTC, which sorts as text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    appended_at: String,
}

/// One partition, read a page ahead.
struct Reader {
    partition: u32,
    next_offset: u64,
    /// Where to stop.
    end: u64,
    ahead: VecDeque<(String, Box<RawValue>)>,
}

impl Tail {
    /// Prints what is asked for. With `--follow` it ends only by an error.
    ///
    /// # Errors
    /// See [`TailError`].
    pub async fn run(&self, service: &Service, out: &mut dyn Write) -> Result<(), TailError> {
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

    /// The partitions asked for.
    async fn bounds(&self, service: &Service) -> Result<Vec<Bounds>, TailError> {
        let Topics { data: mut topics } = service.get("/api/v1/topics").await?;
        let Some(at) = topics.iter().position(|topic| topic.name == self.name) else {
            let known = topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>().join(", ");
            return Err(TailError::UnknownTopic { name: self.name.clone(), known });
        };
        let mut partitions = topics.swap_remove(at).partitions;
        let Some(partition) = self.partition else { return Ok(partitions) };
        let has = partitions.len();
        partitions.retain(|bounds| bounds.partition == partition);
        match partitions.is_empty() {
            true => Err(TailError::UnknownPartition { name: self.name.clone(), partition, has }),
            false => Ok(partitions),
        }
    }

    fn reader(&self, bounds: &Bounds) -> Reader {
        // The last of all are among the last of each.
        let from = self.from.unwrap_or_else(|| bounds.next_offset.saturating_sub(u64::from(self.last)));
        Reader {
            partition: bounds.partition,
            next_offset: from.max(bounds.first_offset),
            end: bounds.next_offset,
            ahead: VecDeque::new(),
        }
    }

    /// The record that the log took first, of those that are left.
    async fn next(&self, service: &Service, readers: &mut [Reader]) -> Result<Option<Box<RawValue>>, ServiceError> {
        for reader in readers.iter_mut() {
            reader.read_ahead(service, &self.name).await?;
        }
        let first = readers.iter_mut().filter(|reader| !reader.ahead.is_empty()).min_by(|a, b| a.at().cmp(&b.at()));
        Ok(first.and_then(|reader| reader.ahead.pop_front()).map(|(_, record)| record))
    }
}

impl Reader {
    /// When the log took its next record.
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
        // A page without a record has nothing behind it either.
        self.next_offset = if page.data.is_empty() { self.end } else { page.next_offset };
        self.ahead = page.data.into_iter().map(|record| (taken_at(&record), record)).collect();
        Ok(())
    }
}

fn taken_at(record: &RawValue) -> String {
    serde_json::from_str(record.get()).map_or_else(|_| String::new(), |taken: Taken| taken.appended_at)
}

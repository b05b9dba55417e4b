//! Sends the config store's data again to a log that has lost its end, or everything.
//!
//! Everything goes through the log, like every input: the engine needs no separate path, and a
//! repeated record changes nothing. It costs a few records for each user, once, before anything is
//! served. If it is interrupted, it begins again: see `PendingRestore`.

use std::collections::BTreeMap;
use std::sync::Arc;

use configuration_api::PRODUCER as OUTBOX;
use ports::config_store::{OutboxEntry, Page, User};
use ports::log::{Log, LogError, NewRecord, Topic, partition_of};
use ports::records::SegmentRecord;
use ports::records::json_text::JsonText;
use segment_engine::ids::{ListVersion, PartitionId, UserId};
use segment_engine::time::Timestamp;
use segment_users::definitions;
use segment_users::membership_writer::MembershipWriter;

use super::log::{Positions, sent};
use super::{Failure, store};
use crate::serve::open::Opened;

/// The producer under which earlier builds counted restores.
const PRODUCER: &str = "restore";
/// The number of users read at a time.
const USERS_PER_PAGE: usize = 500;
/// Records are appended when they reach this size. The records of one user stay together.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// Returns the sequence of a restore that an earlier build began and did not end: an odd one.
pub(super) async fn begun_by_earlier_build(log: &dyn Log) -> Result<Option<u64>, LogError> {
    let sequence = log.producer_sequence(PRODUCER).await?;
    Ok(Some(sequence).filter(|sequence| sequence % 2 == 1))
}

/// Makes the log's offsets continue after all known positions, and sends it the config store's
/// data.
pub(super) async fn restore(opened: &Opened) -> Result<(), Failure> {
    let log = &opened.log;
    skip_lost_offsets(opened).await?;
    for partition in PartitionId::all(log.partitions()) {
        let mut memberships = MembershipWriter::open(partition, log.clone(), opened.memberships.clone()).await?;
        while memberships.step().await? {}
    }
    // Users before segments: a new segment reads the history of the users known at its definition.
    let history = SegmentRecord::SegmentHistory {};
    let history = |partition| NewRecord {
        topic: Topic::Events,
        partition,
        key: "segment:0".to_owned(),
        value: serde_json::to_vec(&history).expect("a segment record is plain data"),
    };
    log.append(PartitionId::all(log.partitions()).map(history).collect()).await?;
    send_users(opened, Part::Known).await?;
    let segments = store::definitions(log.as_ref(), opened.store.as_ref()).await?;
    log.append(segments.into_iter().map(|entry| entry.record(log.partitions())).collect()).await?;
    definitions::relay(log).await?;
    send_users(opened, Part::Memberships).await?;
    log.append_once(OUTBOX, sent(opened).await?, Vec::new()).await?;
    if let Some(begun) = begun_by_earlier_build(log.as_ref()).await? {
        log.append_once(PRODUCER, begun + 1, Vec::new()).await?;
    }
    Ok(())
}

/// Skips all offsets that a reader has seen, so that none is assigned a second time.
async fn skip_lost_offsets(opened: &Opened) -> Result<(), Failure> {
    let log = &opened.log;
    for partition in PartitionId::all(log.partitions()) {
        let Positions { archived, stored, computed } = Positions::of(opened, partition).await?;
        log.skip_to(Topic::Events, partition, archived.max(computed.0)).await?;
        log.skip_to(Topic::Notifications, partition, stored.max(computed.1)).await?;
    }
    Ok(log.skip_to(Topic::Config, PartitionId::ONLY, log.producer_sequence(definitions::PRODUCER).await?).await?)
}

/// The part of the users' data to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Users and their data, and the ids of users that are merged or deleted.
    Known,
    /// The memberships that were emitted.
    Memberships,
}

async fn send_users(opened: &Opened, part: Part) -> Result<(), Failure> {
    let mut appender = Appender { log: opened.log.clone(), records: Vec::new(), bytes: 0, sequences: Vec::new() };
    for partition in PartitionId::all(opened.log.partitions()) {
        appender.sequences.push(opened.log.bounds(Topic::Notifications, partition).await?.1);
    }
    let mut after = 0;
    loop {
        let page = opened.store.users(Page { after, limit: USERS_PER_PAGE }).await?;
        if page.is_empty() {
            break;
        }
        for user in page {
            let between = after + 1..user.id.0;
            after = user.id.0;
            if part == Part::Memberships {
                let sequence = appender.sequence_of(user.id);
                appender.add(vec![OutboxEntry::restored(&user, sequence)]).await?;
                continue;
            }
            for id in between {
                appender.add(departed(opened, UserId(id)).await?).await?;
            }
            let sequence = appender.sequence_of(user.id);
            appender.add(known(opened, &user, sequence).await?).await?;
        }
    }
    if part == Part::Known {
        for id in after + 1..=opened.store.last_ids().await?.user {
            appender.add(departed(opened, UserId(id)).await?).await?;
        }
    }
    appender.flush().await
}

/// Returns the records of a user.
async fn known(opened: &Opened, user: &User, sequence: u64) -> Result<Vec<OutboxEntry>, Failure> {
    // Notifications caused by these records get numbers after the lost ones.
    let mut entries = vec![OutboxEntry::user(user), OutboxEntry::numbered(user.id, sequence)];
    let mut traits: BTreeMap<Timestamp, BTreeMap<String, JsonText>> = BTreeMap::new();
    for (key, set) in opened.store.traits(user.id).await? {
        traits.entry(set.created_at).or_default().insert(key, set.value);
    }
    entries.extend(traits.into_iter().map(|(created_at, traits)| OutboxEntry::traits(user.id, traits, created_at)));
    let list = opened.memberships.manual_list(user.id).await?;
    if list.version > ListVersion::default() {
        entries.push(OutboxEntry::manual(user.id, list));
    }
    Ok(entries)
}

/// Returns the records of an id that is no longer a user's: merged into another user, or deleted.
async fn departed(opened: &Opened, id: UserId) -> Result<Vec<OutboxEntry>, Failure> {
    let Some(survivor) = opened.store.user(id).await? else { return Ok(vec![OutboxEntry::delete(id)]) };
    // An engine that does not know the id must learn it first, or nothing would follow it to the
    // survivor.
    let absorbed = User { id, client_ref_id: None, email: None, name: None, ..survivor.clone() };
    Ok(vec![OutboxEntry::user(&absorbed), OutboxEntry::merge(id, survivor.id, None)])
}

/// Collects records and appends them.
struct Appender {
    log: Arc<dyn Log>,
    records: Vec<NewRecord>,
    bytes: usize,
    /// The number of notifications of each partition. No user's notification had a higher number.
    sequences: Vec<u64>,
}

impl Appender {
    fn sequence_of(&self, user: UserId) -> u64 {
        self.sequences[partition_of(user, self.log.partitions()).0 as usize]
    }

    /// Adds the records of one user, which stay together.
    async fn add(&mut self, entries: Vec<OutboxEntry>) -> Result<(), Failure> {
        let partitions = self.log.partitions();
        self.bytes += entries.iter().map(|entry| entry.value.len()).sum::<usize>();
        self.records.extend(entries.into_iter().map(|entry| entry.record(partitions)));
        if self.bytes >= APPEND_BYTES_MAX { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        self.log.append(std::mem::take(&mut self.records)).await?;
        Ok(())
    }
}

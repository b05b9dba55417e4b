//! A log that has lost its end, or everything, is told again what the config store knows.
//!
//! All of it goes through the log, like every input: so the engine needs no way of its own, and a record that is told twice
//! changes nothing. It costs a few records for each user, once, before anything is served. If it is interrupted, the next
//! start finds it under way and asks for it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use configuration_api::PRODUCER as OUTBOX;
use ports::config_store::{OutboxEntry, Page, User};
use ports::log::{Log, NewRecord, Topic, partition_of};
use ports::records::SegmentRecord;
use ports::records::json_text::JsonText;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;
use segment_users::definitions;
use segment_users::membership_writer::MembershipWriter;

use super::log::{Positions, sent};
use super::{Failure, store};
use crate::serve::open::Opened;

/// The name in the log under which it is noted: odd while it is under way.
pub const PRODUCER: &str = "restore";
/// Users that are read at a time.
const USERS_PER_PAGE: usize = 500;
/// An append is made when its records have this size; one user's stay together.
const APPEND_BYTES_MAX: usize = 4 << 20;

/// Whether the last one did not come to its end.
pub fn is_under_way(sequence: u64) -> bool {
    sequence % 2 == 1
}

/// Makes the log go on after everything that is known of it, and tells it what the config store has.
pub async fn restore(opened: &Opened) -> Result<(), Failure> {
    let log = &opened.log;
    let last = log.producer_sequence(PRODUCER).await?;
    let begun = if is_under_way(last) { last } else { last + 1 };
    log.append_once(PRODUCER, begun, Vec::new()).await?;
    skip_what_is_lost(opened).await?;
    for partition in 0..log.partitions() {
        let mut memberships = MembershipWriter::open(partition, log.clone(), opened.memberships.clone()).await?;
        while memberships.step().await? {}
    }
    // Users before segments: a segment reads the history of those who are known where it is defined.
    let history = SegmentRecord::SegmentHistory {};
    let history = |partition| NewRecord {
        topic: Topic::Events,
        partition,
        key: "segment:0".to_owned(),
        value: serde_json::to_vec(&history).expect("a segment record is plain data"),
    };
    log.append((0..log.partitions()).map(history).collect()).await?;
    tell_users(opened, What::Known).await?;
    let segments = store::definitions(log.as_ref(), opened.store.as_ref()).await?;
    log.append(segments.into_iter().map(|entry| entry.record(log.partitions())).collect()).await?;
    definitions::relay(log).await?;
    tell_users(opened, What::Memberships).await?;
    log.append_once(OUTBOX, sent(opened).await?, Vec::new()).await?;
    log.append_once(PRODUCER, begun + 1, Vec::new()).await?;
    Ok(())
}

/// No offset is given twice, as far as anybody knows.
async fn skip_what_is_lost(opened: &Opened) -> Result<(), Failure> {
    let log = &opened.log;
    for partition in 0..log.partitions() {
        let Positions { archived, stored, computed } = Positions::of(opened, partition).await?;
        log.skip_to(Topic::Events, partition, archived.max(computed.0)).await?;
        log.skip_to(Topic::Notifications, partition, stored.max(computed.1)).await?;
    }
    Ok(log.skip_to(Topic::Config, 0, log.producer_sequence(definitions::PRODUCER).await?).await?)
}

/// What is told of the users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Who they are, or that they are gone.
    Known,
    /// What they were told to be in.
    Memberships,
}

async fn tell_users(opened: &Opened, what: What) -> Result<(), Failure> {
    let mut told = Told { log: opened.log.clone(), records: Vec::new(), bytes: 0, sequences: Vec::new() };
    for partition in 0..opened.log.partitions() {
        told.sequences.push(opened.log.bounds(Topic::Notifications, partition).await?.1);
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
            if what == What::Memberships {
                let sequence = told.sequence_of(user.id);
                told.add(vec![OutboxEntry::restored(&user, sequence)]).await?;
                continue;
            }
            for id in between {
                told.add(gone(opened, UserId(id)).await?).await?;
            }
            let sequence = told.sequence_of(user.id);
            told.add(known(opened, &user, sequence).await?).await?;
        }
    }
    if what == What::Known {
        for id in after + 1..=opened.store.last_ids().await?.user {
            told.add(gone(opened, UserId(id)).await?).await?;
        }
    }
    told.flush().await
}

/// What the engine must know of a user.
async fn known(opened: &Opened, user: &User, sequence: u64) -> Result<Vec<OutboxEntry>, Failure> {
    // What comes of these records is numbered after what was lost.
    let mut entries = vec![OutboxEntry::user(user), OutboxEntry::numbered(user.id, sequence)];
    let mut traits: BTreeMap<Timestamp, BTreeMap<String, JsonText>> = BTreeMap::new();
    for (key, set) in opened.store.traits(user.id).await? {
        traits.entry(set.created_at).or_default().insert(key, set.value);
    }
    entries.extend(traits.into_iter().map(|(created_at, traits)| OutboxEntry::traits(user.id, traits, created_at)));
    let list = opened.memberships.manual_list(user.id).await?;
    if list.version > 0 {
        entries.push(OutboxEntry::manual(user.id, list));
    }
    Ok(entries)
}

/// What the engine must know of an id that is no user's any more: merged into another, or deleted.
async fn gone(opened: &Opened, id: UserId) -> Result<Vec<OutboxEntry>, Failure> {
    let Some(survivor) = opened.store.user(id).await? else { return Ok(vec![OutboxEntry::delete(id)]) };
    // An engine that has never heard of it has to, or nothing would follow it to the survivor.
    let absorbed = User { id, client_ref_id: None, email: None, name: None, ..survivor.clone() };
    Ok(vec![OutboxEntry::user(&absorbed), OutboxEntry::merge(id, survivor.id, None)])
}

/// Records on their way into the log.
struct Told {
    log: Arc<dyn Log>,
    records: Vec<NewRecord>,
    bytes: usize,
    /// Of each partition: how many notifications there were, so that no user's had a higher number.
    sequences: Vec<u64>,
}

impl Told {
    fn sequence_of(&self, user: UserId) -> u64 {
        self.sequences[partition_of(user.0, self.log.partitions()) as usize]
    }

    /// Takes the records of one user, which stay together.
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

//! Applies one record of the partition.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ports::ErrorCode;
use ports::log::{NewRecord, Record, Topic, partition_of};
use ports::records::decode::{BadRecord, Delivery, Input, decode_input};
use ports::records::json_text::{JsonText, trees};
use ports::records::{SegmentRecord, UserRecord};
use segment_engine::event::Position;
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::machine::{Cause, Definition, ManualList, Rule, Source, UserProfile};
use segment_engine::time::Timestamp;

use super::history::Unread;
use super::slice::Slice;
use super::{Partition, Tombstone, WorkerError, notify};

/// Why a record was not applied.
enum ApplyError {
    /// The record is bad. It becomes an error record, and the partition goes on.
    Bad(BadRecord),
    /// The worker cannot go on.
    Fatal(WorkerError),
}

impl From<BadRecord> for ApplyError {
    fn from(bad: BadRecord) -> Self {
        Self::Bad(bad)
    }
}

impl From<WorkerError> for ApplyError {
    fn from(error: WorkerError) -> Self {
        Self::Fatal(error)
    }
}

impl Partition {
    /// Applies a record. A bad one becomes a `segment_computation_error`, and the partition goes
    /// on.
    pub(crate) async fn apply(&mut self, record: &Record) -> Result<(), WorkerError> {
        match self.try_apply(record).await {
            Ok(()) => {}
            Err(ApplyError::Fatal(error)) => return Err(error),
            Err(ApplyError::Bad(bad)) => {
                // The message may quote what a user sent. It goes to the error topic, which
                // forgets.
                let (partition, offset, code) = (self.id.0, record.offset, bad.code);
                tracing::warn!(partition, offset, %code, "a record was not applied; the error topic says why");
                let at = self.ports.clock.now();
                self.outgoing.push(notify::bad_record(bad.code, bad.message, record, self.id, at));
            }
        }
        Ok(())
    }

    async fn try_apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        let position = Position { partition: self.id, offset: record.offset };
        match decode_input(&record.value, position, record.appended_at)? {
            Input::Event(delivery) => Ok(self.apply_event(delivery, record)?),
            Input::User(input) => self.apply_user(input, record).await,
            Input::Segment(input) => self.apply_segment(input, record).await,
        }
    }

    fn apply_event(&mut self, delivery: Delivery, record: &Record) -> Result<(), BadRecord> {
        let user = delivery.event.user_id;
        let Some(tombstone) = self.tombstones.get(&user) else {
            self.deliver(&delivery, record);
            return Ok(());
        };
        self.left_out.push(record.offset);
        match tombstone {
            Tombstone::Merged(survivor) => self.forward(*survivor, record),
            Tombstone::Deleted => return Err(deleted(user)),
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: &Delivery, record: &Record) {
        if !self.machine.event(&delivery.event, delivery.dedupe_forever, record.appended_at) {
            self.left_out.push(record.offset);
        }
    }

    async fn apply_user(&mut self, input: UserRecord, record: &Record) -> Result<(), ApplyError> {
        let at = record.appended_at;
        let user = input.user_id();
        if let Some(tombstone) = self.tombstones.get(&user) {
            self.left_out.push(record.offset);
            match *tombstone {
                Tombstone::Merged(survivor) => self.redirect(survivor, input, record),
                // Appended again after the log lost its end.
                Tombstone::Deleted if matches!(input, UserRecord::Delete { .. }) => {}
                Tombstone::Deleted => return Err(deleted(user).into()),
            }
            return Ok(());
        }
        match input {
            UserRecord::User { user_id, client_ref_id, email, name, created_at } => {
                let profile = UserProfile { email, name, created_at: Some(created_at) };
                self.machine.profile(user_id, client_ref_id.as_deref(), profile, at);
            }
            UserRecord::Traits { user_id, traits, created_at } => {
                self.set_traits(user_id, &traits, created_at, at)?;
            }
            UserRecord::Manual { user_id, list } => self.machine.manual(user_id, list, Cause::Manual, at),
            UserRecord::Merge { user_id, survivor, manual } => self.merge(user_id, survivor, manual, record),
            UserRecord::Transfer { user_id, absorbed, below, state, manual } => {
                if let Some(list) = manual {
                    self.machine.manual(user_id, list, Cause::Merge, at);
                }
                // Without a state, nothing was known about the absorbed user.
                if let Some(state) = state {
                    self.transfer(user_id, Source { user: absorbed, below }, &state, record).await?;
                }
            }
            UserRecord::Forward { user_id, partition, offset, appended_at, record: inner } => {
                self.forwarded(user_id, Position { partition, offset }, appended_at, inner.get(), record)?;
            }
            UserRecord::Restored { user_id, segments, sequence } => {
                self.machine.bring(user_id, at);
                let sequence = self.machine.sequence(user_id).max(sequence);
                // Without a list, consumers know the user's current memberships.
                let segments = segments.unwrap_or_else(|| self.machine.memberships(user_id));
                self.machine.reconcile(user_id, &segments, sequence, Cause::Repair);
            }
            UserRecord::Delete { user_id } => {
                self.machine.remove_user(user_id, Cause::Delete, at);
                self.tombstones.insert(user_id, Tombstone::Deleted);
            }
        }
        Ok(())
    }

    /// Sends a record for a merged user on to the survivor. A repeated merge changes nothing.
    /// Merged users are deleted with the survivor, whose partition then refuses what still arrives
    /// for them.
    fn redirect(&mut self, survivor: UserId, input: UserRecord, record: &Record) {
        match input {
            UserRecord::Merge { .. } | UserRecord::Delete { .. } => {}
            UserRecord::Transfer { absorbed, below, state, .. } => {
                // The manual list went to the later survivor when that absorbed this user.
                let manual = None;
                self.send(survivor, &UserRecord::Transfer { user_id: survivor, absorbed, below, state, manual });
            }
            UserRecord::Forward { partition, offset, appended_at, record, .. } => {
                self.send(survivor, &UserRecord::Forward { user_id: survivor, partition, offset, appended_at, record });
            }
            _ => self.forward(survivor, record),
        }
    }

    fn forward(&mut self, survivor: UserId, record: &Record) {
        let Ok(inner) = serde_json::from_slice(&record.value) else { return };
        let forward = UserRecord::Forward {
            user_id: survivor,
            partition: self.id,
            offset: record.offset,
            appended_at: record.appended_at,
            record: inner,
        };
        self.send(survivor, &forward);
    }

    fn forwarded(
        &mut self,
        user: UserId,
        position: Position,
        appended_at: Timestamp,
        inner: &str,
        record: &Record,
    ) -> Result<(), BadRecord> {
        match decode_input(inner.as_bytes(), position, appended_at)? {
            Input::Event(mut delivery) => {
                let source = Source { user: delivery.event.user_id, below: position.offset + 1 };
                delivery.event.user_id = user;
                self.deliver(&delivery, record);
                self.machine.extend_source(user, source);
            }
            Input::User(UserRecord::Traits { traits, created_at, .. }) => {
                self.set_traits(user, &traits, created_at, record.appended_at)?;
            }
            // The absorbed user's profile and manual list ended with the merge.
            Input::User(_) | Input::Segment(_) => {}
        }
        Ok(())
    }

    fn set_traits(
        &mut self,
        user: UserId,
        traits: &BTreeMap<String, JsonText>,
        created_at: Timestamp,
        at: Timestamp,
    ) -> Result<(), BadRecord> {
        self.machine.traits(user, &trees(traits)?, created_at, at);
        Ok(())
    }

    fn merge(&mut self, absorbed: UserId, survivor: UserId, manual: Option<ManualList>, record: &Record) {
        self.tombstones.insert(absorbed, Tombstone::Merged(survivor));
        let departed = self.machine.remove_user(absorbed, Cause::Merge, record.appended_at);
        let state = departed.map(|departed| BASE64.encode(self.machine.save_departed(&departed)));
        let below = record.offset + 1;
        self.send(survivor, &UserRecord::Transfer { user_id: survivor, absorbed, below, state, manual });
    }

    async fn transfer(
        &mut self,
        survivor: UserId,
        absorbed: Source,
        state: &str,
        record: &Record,
    ) -> Result<(), ApplyError> {
        let bad = |message: String| BadRecord { code: ErrorCode::BadTransfer, message };
        let bytes = BASE64.decode(state).map_err(|error| bad(error.to_string()))?;
        let departed = self.machine.load_departed(&bytes).map_err(|error| bad(error.to_string()))?;
        let sources = departed.sources().chain([absorbed.user]).collect::<Vec<_>>();
        let lacking = self.machine.absorb(survivor, departed, absorbed.below, record.appended_at);
        self.backfill_also(survivor, &sources, record.offset);
        if !lacking.is_empty() {
            self.wait_until_archived(partition_of(absorbed.user, self.ports.log.partitions()), absorbed.below).await?;
            let history = sources.into_iter().map(|source| Unread::new(survivor, source)).collect();
            self.read_history(&lacking, history).await?;
        }
        Ok(())
    }

    async fn apply_segment(&mut self, input: SegmentRecord, record: &Record) -> Result<(), ApplyError> {
        let at = record.appended_at;
        match input {
            SegmentRecord::SegmentDefined { id, tag, version, where_statement, manual } => {
                let rule = if manual {
                    Rule::Manual
                } else {
                    let plan = self.ports.plans.plan(&where_statement).map_err(|error| {
                        let message = format!("segment {tag} keeps its old version: {error}");
                        BadRecord { code: ErrorCode::BadSegment, message }
                    })?;
                    Rule::Where(plan)
                };
                if self.machine.is_pending(id) == Some(true) {
                    self.save_before_change().await?;
                }
                self.machine.define(Definition { id, tag, version, where_statement, rule }, record.offset, at);
                if self.machine.needs_no_history(id) {
                    self.activate(id, version, at).await?;
                }
            }
            SegmentRecord::SegmentReady { id, version } => {
                if self.machine.pending_version(id) != Some(version) {
                    // A newer version replaced it, or it was removed, before this record was read.
                    return Ok(());
                }
                if !self.machine.ready().contains(&(id, version)) {
                    // A crash lost what was read since the checkpoint, so the same history is read again.
                    self.backfill_now(id).await?;
                }
                self.activate(id, version, at).await?;
            }
            SegmentRecord::SegmentHistory {} => self.machine.assume_history(),
            SegmentRecord::SegmentRemoved { id } => {
                self.gather(at).await;
                self.save_before_change().await?;
                self.machine.remove_segment(id, at);
                self.told.remove(&id);
            }
        }
        Ok(())
    }

    async fn activate(&mut self, id: SegmentId, version: SegmentVersion, at: Timestamp) -> Result<(), WorkerError> {
        self.gather(at).await;
        if self.machine.version_in_force(id).is_some() {
            self.save_before_change().await?;
        }
        self.machine.activate(id, version, at);
        Ok(())
    }

    /// Lets users who are behind come to an instant at which other segments come in force: until
    /// then they follow the old ones.
    async fn gather(&mut self, at: Timestamp) {
        let mut slice = Slice::begin(self.settings.slice);
        while !self.machine.gather(at, self.settings.followers_per_turn_max) {
            slice.end_if_over().await;
        }
    }

    /// Sends a record to a user's partition, in the next commit.
    fn send(&mut self, to: UserId, record: &UserRecord) {
        self.outgoing.push(NewRecord {
            topic: Topic::Events,
            partition: partition_of(to, self.ports.log.partitions()),
            key: to.to_string(),
            value: serde_json::to_vec(record).expect("user records are plain data"),
        });
    }
}

fn deleted(user: UserId) -> BadRecord {
    BadRecord {
        code: ErrorCode::UserDeleted,
        message: format!("user {user} was deleted before this record was applied"),
    }
}

//! What must hold when nothing is left to do.

use std::collections::BTreeSet;

use ports::log::{Topic, partition_of};
use ports::records::{Cause, Notification};
use ports::warehouse::HistoryOf;
use segment_engine::event::Event;
use segment_engine::ids::{ListVersion, PartitionId, SegmentId, SegmentVersion, UserId};
use segment_engine::language::compile;
use segment_engine::machine::{self, Definition, Machine, ManualList, Rule, UserProfile};
use segment_engine::time::Timestamp;
use serde_json::json;

use crate::inputs::{MANUAL, Saved};
use crate::{PARTITIONS, USERS, World};

impl World {
    /// Returns the archived events under the current user ids.
    async fn archived(&self) -> Vec<Event> {
        let parts: Vec<_> =
            (1..=USERS).map(|user| HistoryOf { user: UserId(user), from: 0, below: u64::MAX }).collect();
        let mut events = self.ports.warehouse.history(&parts, usize::MAX).await.unwrap().events;
        let rows: Vec<&str> = events.iter().filter_map(|event| event.event_id.as_deref()).collect();
        let here = self.sent.iter().filter(|(user, _)| self.survivors.contains_key(user));
        let sent: BTreeSet<&str> = here.map(|(_, id)| &**id).collect();
        // Twice only if it was sent again after its id was forgotten; then the engine counts it
        // twice too.
        assert_eq!(BTreeSet::from_iter(rows), sent, "each event of a user that was not deleted is archived");
        events.sort_by_key(|event| event.processed_at);
        let current =
            |event: Event| Event { user_id: UserId(self.survivors[&event.user_id.0]), event_id: None, ..event };
        events.into_iter().map(current).collect()
    }

    /// Returns a machine that sees all events in order, without merges, backfills and restarts.
    async fn plain(&self) -> Machine {
        let mut machine = Machine::new(machine::Settings::default());
        for (id, tag) in MANUAL {
            let (tag, where_statement) = (tag.to_owned(), String::new());
            machine.define(
                Definition { id, tag, version: SegmentVersion(1), where_statement, rule: Rule::Manual },
                0,
                Timestamp(0),
            );
            machine.activate(id, SegmentVersion(1), Timestamp(0));
        }
        for (id, Saved { tag, version, clause }) in self.segments.clone() {
            let rule = compile(clause).unwrap().into();
            let definition = Definition { id, tag, version, where_statement: clause.to_owned(), rule };
            machine.define(definition, 0, Timestamp(0));
            machine.activate(id, version, Timestamp(0));
        }
        for user in self.survivors.values() {
            machine.profile(UserId(*user), None, UserProfile::default(), Timestamp(0));
        }
        for (user, (version, list)) in &self.lists {
            let list = ManualList { version: ListVersion(*version), segments: list.iter().copied().collect() };
            machine.manual(UserId(*user), list, Cause::Manual, Timestamp(0));
        }
        for (user, plan, at) in &self.plans {
            let Some(user) = self.survivors.get(user) else { continue };
            let traits = json!({"plan": plan});
            machine.traits(UserId(*user), traits.as_object().unwrap(), *at, Timestamp(0));
        }
        for event in self.archived().await {
            machine.event(&event, false, event.processed_at);
        }
        machine.advance(self.partitions[0].machine().now(), usize::MAX);
        machine
    }

    /// Reads the notifications since the last call.
    pub(crate) async fn consume(&mut self) {
        for (partition, read) in (0..).zip(&mut self.read) {
            let batch =
                self.ports.log.read(Topic::Notifications, PartitionId(partition), *read, usize::MAX).await.unwrap();
            *read = batch.next_offset;
            for record in &batch.records {
                let notification: Notification = serde_json::from_slice(&record.value).unwrap();
                assert_ne!(notification.cause, Cause::Repair, "{notification:?}");
                let (sequence, members) = self.emitted.entry(notification.user_id).or_default();
                assert_eq!(notification.sequence, *sequence + 1, "{notification:?}");
                *sequence = notification.sequence;
                for segment in &notification.out_segments {
                    assert!(members.remove(segment), "left without having entered: {notification:?}");
                }
                for segment in &notification.in_segments {
                    assert!(members.insert(*segment), "entered twice: {notification:?}");
                }
            }
        }
    }

    pub(crate) async fn check(&mut self) {
        self.consume().await;
        let plain = self.plain().await;
        for user in 1..=USERS {
            let id = UserId(user);
            let partition = &self.partitions[partition_of(UserId(user), PARTITIONS).0 as usize];
            let survivor = self.survivors.get(&user);
            let expected = if survivor == Some(&user) { plain.memberships(id) } else { Vec::new() };
            assert_eq!(partition.machine().memberships(id), expected, "user {user}, now {survivor:?}");
            let emitted: Vec<SegmentId> =
                self.emitted.get(&id).into_iter().flat_map(|(_, members)| members).copied().collect();
            assert_eq!(emitted, expected, "emitted for user {user}");
        }
    }
}

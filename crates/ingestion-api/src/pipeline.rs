//! From received events to outcomes: decide, resolve, append once.

use std::collections::HashMap;
use std::sync::Arc;

use ports::ErrorCode;
use ports::clock::Clock;
use ports::identities::{Hold, Identities, Identity, IdentityError};
use ports::log::{Log, LogError, NewRecord, Topic, partition_of};
use ports::readers::Readers;
use ports::records::{UserRecord, instant};
use segment_engine::ids::UserId;
use tokio::sync::Semaphore;

use crate::admission::{EventDraft, Received, Rejection, admit};
use crate::capacity::Capacity;
use crate::future::FuturePolicy;
use crate::limits::Limits;
use crate::lookups::Lookups;
use crate::misplaced::Warnings;
use crate::outcome::{self, Outcome};
use crate::refusal;

/// What happens to the events of unknown users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownUsers {
    /// They are rejected with `USER_NOT_FOUND`.
    #[default]
    Reject,
    /// Each unknown identity becomes a new user.
    Create,
}

/// How the events of a request are processed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens to the events of unknown users.
    pub unknown_users: UnknownUsers,
    /// Whether their event ids are derived from the content, so that duplicates are recognised without a time limit.
    pub dedupe_forever: bool,
}

/// The ingestion service, without HTTP.
pub struct Ingestion {
    log: Arc<dyn Log>,
    identities: Arc<dyn Identities>,
    /// Of the log. `None`: nobody waits for them.
    pub(crate) readers: Option<Arc<dyn Readers>>,
    /// Places for requests that wait for them.
    pub(crate) held_up: Semaphore,
    clock: Arc<dyn Clock>,
    pub(crate) lookups: Lookups,
    pub(crate) capacity: Capacity,
    pub(crate) limits: Limits,
    pub(crate) unknown_users: UnknownUsers,
    future: FuturePolicy,
    /// Held while an event is replayed: two replays of one event could both find its user missing and make it.
    replaying: tokio::sync::Mutex<()>,
}

type Admission<'a> = Result<EventDraft<'a>, Rejection>;

/// Why none of the events was stored. Sending them again later may succeed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log could not be read or appended to.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The users could not be looked up or created.
    #[error(transparent)]
    Identities(#[from] IdentityError),
}

/// What became of some events.
#[derive(Debug, Default)]
pub struct Processed {
    /// One for each event, in order.
    pub outcomes: Vec<Outcome>,
    /// About accepted events.
    pub warnings: Warnings,
}

/// What is appended for the events of a request.
#[derive(Default)]
struct Writing {
    records: Vec<NewRecord>,
    warnings: Warnings,
    /// Keep the outbox relay from the users created for these records, until they are appended.
    holds: Vec<Box<dyn Hold>>,
}

impl Ingestion {
    /// Returns a service on these ports.
    pub fn new(
        log: Arc<dyn Log>,
        identities: Arc<dyn Identities>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        unknown_users: UnknownUsers,
    ) -> Self {
        // A metric that has not counted anything yet shows 0.
        outcome::count(&[]);
        outcome::count_not_admitted(0);
        metrics::counter!("uss_replaced_characters_events_total").increment(0);
        metrics::gauge!("uss_requests_held_up").set(0.0);
        let (capacity, lookups) = (Capacity::new(&limits), Lookups::new(&limits));
        let (readers, held_up) = (None, Semaphore::new(limits.held_up_max));
        let (future, replaying) = (FuturePolicy::default(), tokio::sync::Mutex::default());
        Self { log, identities, readers, held_up, clock, lookups, capacity, limits, unknown_users, future, replaying }
    }

    /// Sets the policy for events dated in the future.
    #[must_use]
    pub fn with_future(self, future: FuturePolicy) -> Self {
        Self { future, ..self }
    }

    /// Makes requests wait while these readers of the log are far behind.
    #[must_use]
    pub fn with_readers(self, readers: Arc<dyn Readers>) -> Self {
        Self { readers: Some(readers), ..self }
    }

    pub(crate) fn log(&self) -> &dyn Log {
        &*self.log
    }

    pub(crate) fn identities(&self) -> &dyn Identities {
        &*self.identities
    }

    /// Decides events and appends accepted and rejected ones in one append: one outcome each, in order.
    ///
    /// # Errors
    /// None of the events is stored.
    pub async fn process(&self, events: &[Received<'_>], options: Options) -> Result<Processed, IngestError> {
        self.process_within(events, options, usize::MAX).await
    }

    /// As [`Ingestion::process`], but takes no event from that on which would be rejected after `rejected_max` others were.
    /// There are outcomes of those before it only.
    pub(crate) async fn process_within(
        &self,
        events: &[Received<'_>],
        options: Options,
        rejected_max: usize,
    ) -> Result<Processed, IngestError> {
        let processed = self.attempt(events, options, rejected_max).await;
        match &processed {
            Ok(processed) => outcome::count(&processed.outcomes),
            Err(_) => outcome::count_not_admitted(events.len()),
        }
        processed
    }

    /// Processes one dead letter. Returns `None` if an event was accepted before with this producer
    /// name. An event that is rejected again is not written to the error topic a second time.
    ///
    /// # Errors
    /// The event is not stored.
    pub(crate) async fn process_once(
        &self,
        name: &str,
        event: Received<'_>,
        options: Options,
    ) -> Result<Option<Outcome>, IngestError> {
        let outcome = self.attempt_once(name, event, options).await;
        match &outcome {
            Ok(outcome) => outcome.iter().for_each(|outcome| outcome::count(std::slice::from_ref(outcome))),
            Err(_) => outcome::count_not_admitted(1),
        }
        outcome
    }

    async fn attempt_once(
        &self,
        name: &str,
        event: Received<'_>,
        options: Options,
    ) -> Result<Option<Outcome>, IngestError> {
        let _alone = self.replaying.lock().await;
        if self.log.producer_sequence(name).await? > 0 {
            return Ok(None);
        }
        let (mut outcomes, writing) = self.decide(&[event], options, usize::MAX).await?;
        let outcome = outcomes.pop().expect("one event has one outcome");
        let is_accepted = matches!(outcome, Outcome::Accepted);
        // `false`: an earlier call appended the record, but its answer was lost.
        if is_accepted {
            if !self.log.append_once(name, 1, writing.records).await? {
                return Ok(None);
            }
            writing.holds.into_iter().for_each(Hold::appended);
        }
        Ok(Some(outcome))
    }

    async fn attempt(
        &self,
        events: &[Received<'_>],
        options: Options,
        rejected_max: usize,
    ) -> Result<Processed, IngestError> {
        let (outcomes, writing) = self.decide(events, options, rejected_max).await?;
        if !writing.records.is_empty() {
            self.log.append(writing.records).await?;
            writing.holds.into_iter().for_each(Hold::appended);
        }
        Ok(Processed { outcomes, warnings: writing.warnings })
    }

    /// Returns the outcome of each event, up to the one that would be rejected after `rejected_max` others, and the records
    /// to append.
    async fn decide(
        &self,
        events: &[Received<'_>],
        options: Options,
        rejected_max: usize,
    ) -> Result<(Vec<Outcome>, Writing), IngestError> {
        let now = self.clock.now();
        let admissions = events.iter().map(|event| self.future.apply(admit(*event, &self.limits)?, now));
        let mut left = rejected_max;
        // No user is created for an event behind the last that is read.
        let admissions = admissions.take_while(|admission| admission.is_ok() || take_one(&mut left));
        let admissions: Vec<Admission<'_>> = admissions.collect();
        let mut writing = Writing::default();
        let users = self.users(&admissions, options.unknown_users, &mut writing).await?;
        let at = instant::format(self.clock.now());
        let mut outcomes = Vec::with_capacity(admissions.len());
        let mut left = rejected_max;
        for (index, ((event, admission), user)) in events.iter().zip(admissions).zip(users).enumerate() {
            let decided = admission.and_then(|draft| match user {
                Some(user_id) => Ok((draft, user_id)),
                None => Err(unknown_user(&draft)),
            });
            match decided {
                Ok((draft, user_id)) => {
                    writing.records.push(self.event_record(&draft, user_id, &at, options.dedupe_forever));
                    writing.note(index, &draft);
                    outcomes.push(Outcome::Accepted);
                }
                Err(_) if !take_one(&mut left) => break,
                Err(rejection) => {
                    let refused = refusal::record(*event, &rejection, &at, options.dedupe_forever, &self.limits);
                    writing.records.push(refused);
                    outcomes.push(Outcome::Rejected(Box::new(rejection)));
                }
            }
        }
        Ok((outcomes, writing))
    }

    /// Returns the user of each admitted event. Records of users created on the way come before the events.
    async fn users(
        &self,
        admissions: &[Admission<'_>],
        unknown_users: UnknownUsers,
        writing: &mut Writing,
    ) -> Result<Vec<Option<UserId>>, IngestError> {
        let mut users = vec![None; admissions.len()];
        let mut missing: HashMap<Identity, Vec<usize>> = HashMap::new();
        for (index, admission) in admissions.iter().enumerate() {
            let Ok(draft) = admission else { continue };
            users[index] = self.identities.known(draft.id_type.as_deref(), &draft.id);
            if users[index].is_none() {
                let id_type = draft.id_type.as_deref().map(str::to_owned);
                let identity = Identity { id_type, id: draft.id.clone().into_owned() };
                missing.entry(identity).or_default().push(index);
            }
        }
        let (asked, places): (Vec<Identity>, Vec<Vec<usize>>) = missing.into_iter().unzip();
        if asked.is_empty() {
            return Ok(users);
        }
        // One turn for all: the relay waits for the users that are created, so they must not wait
        // for others in between.
        let _turn = self.lookups.turn(asked.len()).await;
        for (asked, places) in asked.chunks(self.limits.resolve_max).zip(places.chunks(self.limits.resolve_max)) {
            let found = self.look_up(asked, unknown_users, writing).await?;
            for (user_id, places) in found.into_iter().zip(places) {
                places.iter().for_each(|place| users[*place] = user_id);
            }
        }
        Ok(users)
    }

    async fn look_up(
        &self,
        asked: &[Identity],
        unknown_users: UnknownUsers,
        writing: &mut Writing,
    ) -> Result<Vec<Option<UserId>>, IngestError> {
        if unknown_users == UnknownUsers::Reject {
            return Ok(self.identities.resolve(asked).await?);
        }
        let created = self.identities.create(asked).await?;
        let new = created.users.iter().filter_map(|user| Some((user.user_id, user.new.as_ref()?)));
        writing.records.extend(new.map(|(user_id, record)| self.user_record(user_id, record)));
        writing.holds.push(created.hold);
        Ok(created.users.into_iter().map(|user| Some(user.user_id)).collect())
    }

    fn user_record(&self, user_id: UserId, record: &UserRecord) -> NewRecord {
        let value = serde_json::to_vec(record).expect("records can be written as JSON");
        self.record_of(user_id, value)
    }

    fn event_record(&self, draft: &EventDraft<'_>, user_id: UserId, at: &str, dedupe_forever: bool) -> NewRecord {
        self.record_of(user_id, draft.record.encode(user_id, at, dedupe_forever))
    }

    fn record_of(&self, user_id: UserId, value: Vec<u8>) -> NewRecord {
        let partition = partition_of(user_id, self.log.partitions());
        NewRecord { topic: Topic::Events, partition, key: user_id.to_string(), value }
    }
}

impl Writing {
    /// Notes the warnings about an accepted event.
    fn note(&mut self, index: usize, draft: &EventDraft<'_>) {
        for (field, meant) in &draft.misplaced {
            self.warnings.add(index, field, meant);
        }
        if draft.record.unstorable {
            metrics::counter!("uss_replaced_characters_events_total").increment(1);
        }
    }
}

/// Takes one of those that are left. Returns whether there was one.
fn take_one(left: &mut usize) -> bool {
    let had_one = *left > 0;
    *left = left.saturating_sub(1);
    had_one
}

fn unknown_user(draft: &EventDraft<'_>) -> Rejection {
    let message = match &draft.id_type {
        Some(id_type) => format!("no user has the {id_type} `{}`", draft.id),
        None => format!("no user has the id `{}` as clientRefId, and the event names no id_type", draft.id),
    };
    let advice = "create the user first (POST /api/v1/users), or run with USS_UNKNOWN_USERS=create";
    Rejection::new(ErrorCode::UserNotFound, format!("{message}; {advice}"))
}

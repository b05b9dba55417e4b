//! From received events to outcomes: decide, resolve, append once.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use ports::clock::Clock;
use ports::event_sink::{EventSink, SinkOutcome};
use ports::identities::{Hold, Identities, Identity};
use ports::log::{Log, NewRecord, Topic, partition_of};
use ports::records::{UserRecord, instant};
use segment_engine::event::UserId;
use uss_http::Problem;

use crate::admission::{EventDraft, Received, Rejection, admit};
use crate::cache::IdentityCache;
use crate::capacity::Capacity;
use crate::future::FuturePolicy;
use crate::limits::Limits;
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
    /// A user is made of each unknown identity.
    Create,
}

/// How a request's events are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What happens to the events of unknown users.
    pub unknown_users: UnknownUsers,
    /// Whether their event ids are derived from the content, and so count once without a time limit.
    pub once: bool,
}

/// The ingestion service, without HTTP.
pub struct Ingestion {
    log: Arc<dyn Log>,
    identities: Arc<dyn Identities>,
    clock: Arc<dyn Clock>,
    cache: IdentityCache,
    pub(crate) capacity: Capacity,
    pub(crate) limits: Limits,
    pub(crate) unknown_users: UnknownUsers,
    future: FuturePolicy,
    /// Held while an event is replayed: two replays of one event could both find its user missing and make it.
    replaying: tokio::sync::Mutex<()>,
}

type Admission<'a> = Result<EventDraft<'a>, Rejection>;

/// What became of some events.
#[derive(Debug, Default)]
pub struct Processed {
    /// One for each, in order.
    pub outcomes: Vec<Outcome>,
    /// Of the accepted ones.
    pub warnings: Warnings,
}

/// What is to be appended for a request's events.
#[derive(Default)]
struct Writing {
    records: Vec<NewRecord>,
    warnings: Warnings,
    /// Of the users whose records are among them: kept until the append is done.
    holds: Vec<Hold>,
}

impl Ingestion {
    /// A service on these ports.
    pub fn new(
        log: Arc<dyn Log>,
        identities: Arc<dyn Identities>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        unknown_users: UnknownUsers,
    ) -> Self {
        // What has not happened is to be seen as 0, not as nothing.
        outcome::count(&[]);
        let cache = IdentityCache::new(limits.identity_cache_bytes_max);
        metrics::counter!("uss_replaced_characters_events_total").increment(0);
        let capacity = Capacity::new(&limits);
        let (future, replaying) = (FuturePolicy::default(), tokio::sync::Mutex::default());
        Self { log, identities, clock, cache, capacity, limits, unknown_users, future, replaying }
    }

    /// With another policy for events of the future.
    #[must_use]
    pub fn with_future(self, future: FuturePolicy) -> Self {
        Self { future, ..self }
    }

    /// To be called when a user was deleted or merged into another: their identities are looked up again.
    pub fn forget(&self, user_id: UserId) {
        self.cache.forget(user_id);
    }

    pub(crate) fn log(&self) -> &dyn Log {
        &*self.log
    }

    pub(crate) fn identities(&self) -> &dyn Identities {
        &*self.identities
    }

    /// Takes events in: one outcome each, in order. Accepted and rejected ones go into the log in one append, so either
    /// all of them are stored or none is admitted.
    pub async fn process(&self, events: &[Received<'_>], options: Options) -> Processed {
        let processed = self.attempt(events, options).await.unwrap_or_else(|problem| Processed {
            outcomes: vec![Outcome::NotAdmitted(Box::new(problem)); events.len()],
            warnings: Warnings::default(),
        });
        outcome::count(&processed.outcomes);
        processed
    }

    /// Takes in an event that stands on the error topic, unless that was done under this name before (`None`). Refused
    /// again, it is not written there a second time.
    pub(crate) async fn process_once(&self, name: &str, event: Received<'_>, options: Options) -> Option<Outcome> {
        let outcome = match self.attempt_once(name, event, options).await {
            Ok(outcome) => outcome?,
            Err(problem) => Outcome::NotAdmitted(Box::new(problem)),
        };
        outcome::count(std::slice::from_ref(&outcome));
        Some(outcome)
    }

    async fn attempt_once(
        &self,
        name: &str,
        event: Received<'_>,
        options: Options,
    ) -> Result<Option<Outcome>, Problem> {
        let _alone = self.replaying.lock().await;
        if self.log.producer_sequence(name).await? > 0 {
            return Ok(None);
        }
        let (mut outcomes, writing) = self.decide(&[event], options).await?;
        let outcome = outcomes.pop().expect("one event has one outcome");
        let is_accepted = matches!(outcome, Outcome::Accepted);
        // `false`: the answer to an earlier call was lost, but not the call.
        if is_accepted && !self.log.append_once(name, 1, writing.records).await? {
            return Ok(None);
        }
        Ok(Some(outcome))
    }

    async fn attempt(&self, events: &[Received<'_>], options: Options) -> Result<Processed, Problem> {
        let (outcomes, writing) = self.decide(events, options).await?;
        if !writing.records.is_empty() {
            self.log.append(writing.records).await?;
        }
        Ok(Processed { outcomes, warnings: writing.warnings })
    }

    /// What becomes of each event, and the records that say so.
    async fn decide(&self, events: &[Received<'_>], options: Options) -> Result<(Vec<Outcome>, Writing), Problem> {
        let now = self.clock.now();
        let admissions = events.iter().map(|event| self.future.apply(admit(*event, &self.limits)?, now));
        let admissions: Vec<Admission<'_>> = admissions.collect();
        let mut writing = Writing::default();
        let users = self.users(&admissions, options.unknown_users, &mut writing).await?;
        let at = instant::format(self.clock.now());
        let mut outcomes = Vec::with_capacity(events.len());
        for (index, ((event, admission), user)) in events.iter().zip(admissions).zip(users).enumerate() {
            let decided = admission.and_then(|draft| match user {
                Some(user_id) => Ok((draft, user_id)),
                None => Err(unknown_user(&draft)),
            });
            match decided {
                Ok((draft, user_id)) => {
                    writing.records.push(self.event_record(&draft, user_id, &at, options.once));
                    writing.note(index, &draft);
                    outcomes.push(Outcome::Accepted);
                }
                Err(rejection) => {
                    writing.records.push(refusal::record(*event, &rejection, &at, options.once, &self.limits));
                    outcomes.push(Outcome::Rejected(Box::new(rejection)));
                }
            }
        }
        Ok((outcomes, writing))
    }

    /// The user of each admitted event. Records of users made on the way come before the events.
    async fn users(
        &self,
        admissions: &[Admission<'_>],
        unknown_users: UnknownUsers,
        writing: &mut Writing,
    ) -> Result<Vec<Option<UserId>>, Problem> {
        let mut users = vec![None; admissions.len()];
        let mut missing: HashMap<Identity, Vec<usize>> = HashMap::new();
        for (index, admission) in admissions.iter().enumerate() {
            let Ok(draft) = admission else { continue };
            users[index] = self.cache.get(draft.id_type.as_deref(), &draft.id);
            if users[index].is_none() {
                let id_type = draft.id_type.as_deref().map(str::to_owned);
                let identity = Identity { id_type, id: draft.id.clone().into_owned() };
                missing.entry(identity).or_default().push(index);
            }
        }
        let (asked, places): (Vec<Identity>, Vec<Vec<usize>>) = missing.into_iter().unzip();
        for (asked, places) in asked.chunks(self.limits.resolve_max).zip(places.chunks(self.limits.resolve_max)) {
            let found = self.look_up(asked, unknown_users, writing).await?;
            for ((identity, user_id), places) in asked.iter().zip(found).zip(places) {
                let Some(user_id) = user_id else { continue };
                self.cache.put(identity.clone(), user_id);
                for place in places {
                    users[*place] = Some(user_id);
                }
            }
        }
        Ok(users)
    }

    async fn look_up(
        &self,
        asked: &[Identity],
        unknown_users: UnknownUsers,
        writing: &mut Writing,
    ) -> Result<Vec<Option<UserId>>, Problem> {
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

    fn event_record(&self, draft: &EventDraft<'_>, user_id: UserId, at: &str, once: bool) -> NewRecord {
        self.record_of(user_id, draft.record.encode(user_id, at, once))
    }

    fn record_of(&self, user_id: UserId, value: Vec<u8>) -> NewRecord {
        let partition = partition_of(user_id.0, self.log.partitions());
        NewRecord { topic: Topic::Events, partition, key: user_id.to_string(), value }
    }
}

impl Writing {
    /// What is to be said of an accepted event.
    fn note(&mut self, index: usize, draft: &EventDraft<'_>) {
        for (field, meant) in &draft.misplaced {
            self.warnings.add(index, field, meant);
        }
        if draft.record.unstorable {
            metrics::counter!("uss_replaced_characters_events_total").increment(1);
        }
    }
}

fn unknown_user(draft: &EventDraft<'_>) -> Rejection {
    let message = match &draft.id_type {
        Some(id_type) => format!("no user has the {id_type} `{}`", draft.id),
        None => format!("no user has the id `{}` as clientRefId, and the event names no id_type", draft.id),
    };
    let advice = "create the user first (POST /api/v1/users), or run with USS_UNKNOWN_USERS=create";
    Rejection::new("USER_NOT_FOUND", format!("{message}; {advice}"))
}

#[async_trait]
impl EventSink for Ingestion {
    async fn submit(&self, events: Vec<serde_json::Value>) -> SinkOutcome {
        let options = Options { unknown_users: self.unknown_users, once: false };
        let mut answer = SinkOutcome::default();
        let mut first = 0;
        for chunk in events.chunks(self.limits.chunk_events_max.max(1)) {
            let texts: Vec<String> = chunk.iter().map(serde_json::Value::to_string).collect();
            let received: Vec<Received<'_>> = texts.iter().map(|text| text.as_bytes().into()).collect();
            outcome::tally(&mut answer, first, self.process(&received, options).await.outcomes);
            first += chunk.len();
        }
        answer
    }
}

//! The records of a deployment, and their reference reading: the known users at an instant, with
//! their traits and events. It is deliberately slow and plain, since every source starts from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use segment_engine::decimal::Decimal;
use segment_engine::event::{Event, Position};
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;
use serde_json::{Map, Value as Json};

use crate::clauses::Dialect;

/// A record with the same event id and user is a duplicate if it is received within this time.
const DEDUPLICATION_MICROS: i64 = 24 * 3_600 * 1_000_000;

/// A record.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The time of receipt, never decreasing along a history.
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Defines a segment, again or for the first time; `None` deletes it.
    Segment { tag: String, clause: Option<String> },
    /// Creates a user without an event.
    User { key: String, email: Option<String>, name: Option<String> },
    /// A posted event: `fields` and `payload` are JSON objects.
    Event { key: String, event_id: Option<String>, created_at: Option<Timestamp>, fields: Json, payload: Json },
    /// Traits that are true since `created_at`; null removes one.
    Traits { key: String, created_at: Timestamp, traits: Json },
    /// Merges the user of `from` into the user of `to`.
    Link { from: String, to: String },
    /// Stops the service, which writes a checkpoint, and starts it again.
    Restart,
}

/// A history, and the instants at which all users and segments are compared.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub seed: u64,
    /// The dialect of its clauses.
    pub dialect: Dialect,
    pub steps: Vec<Step>,
    /// Ascending, none before the first step.
    pub instants: Vec<Timestamp>,
}

/// A known user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// The client id first seen.
    pub key: String,
    pub email: Option<String>,
    pub name: Option<String>,
    pub created_at: Timestamp,
    /// The newest value of each trait, and since when it is true; `None` is a removed trait.
    pub traits: BTreeMap<String, (Option<Json>, Timestamp)>,
    /// Accepted events, in order of receipt.
    pub events: Vec<Arc<Event>>,
}

/// The effect of a record, for sources that take records one by one.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A segment changed, or nothing.
    None,
    /// A user was created, or the profile changed.
    Profile(UserId),
    /// The event with its present user, and whether this is its first delivery.
    Event(Arc<Event>, bool),
    Traits(UserId),
    Merge {
        absorbed: UserId,
        survivor: UserId,
    },
}

/// All users and segments at an instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub users: BTreeMap<UserId, User>,
    /// The clauses in force, by tag.
    pub segments: BTreeMap<String, String>,
    /// The users into which absorbed users were merged.
    pub survivors: BTreeMap<UserId, UserId>,
    ids: BTreeMap<String, UserId>,
    offset: u64,
}

impl Case {
    /// Returns the world at each instant, after the records of that instant.
    pub(crate) fn worlds(&self) -> Vec<World> {
        let mut world = World::default();
        let mut steps = self.steps.iter().peekable();
        let world_at = |instant: &Timestamp| {
            while let Some(step) = steps.next_if(|step| step.at <= *instant) {
                world.apply(step);
            }
            world.clone()
        };
        self.instants.iter().map(world_at).collect()
    }
}

impl World {
    /// Applies one record, and returns its effect.
    pub(crate) fn apply(&mut self, step: &Step) -> Effect {
        self.offset += 1;
        match &step.what {
            What::Restart => {}
            What::Segment { tag, clause: Some(clause) } => {
                self.segments.insert(tag.clone(), clause.clone());
            }
            What::Segment { tag, clause: None } => {
                self.segments.remove(tag);
            }
            What::User { key, email, name } => {
                let (id, user) = self.user(key, step.at);
                user.email = email.clone();
                user.name = name.clone();
                return Effect::Profile(id);
            }
            What::Traits { key, created_at, traits } => {
                let (id, user) = self.user(key, step.at);
                user.set_traits(traits, *created_at);
                return Effect::Traits(id);
            }
            What::Event { key, event_id, created_at, fields, payload } => {
                let position = Position { partition: PartitionId(0), offset: self.offset };
                let (id, user) = self.user(key, step.at);
                let event = Arc::new(event(id, key, step.at, position, event_id, *created_at, fields, payload));
                let is_first = !user.has_received(&event);
                if is_first {
                    user.events.push(Arc::clone(&event));
                }
                return Effect::Event(event, is_first);
            }
            What::Link { from, to } => return self.link(from, to, step.at),
        }
        Effect::None
    }

    /// Returns the user of a client id. Creates an unknown one.
    fn user(&mut self, key: &str, at: Timestamp) -> (UserId, &mut User) {
        let next = UserId(self.ids.len() as i64 + 1);
        let id = *self.ids.entry(key.to_owned()).or_insert(next);
        let id = self.survivor(id);
        let user = self.users.entry(id).or_insert_with(|| User {
            key: key.to_owned(),
            email: None,
            name: None,
            created_at: at,
            traits: BTreeMap::new(),
            events: Vec::new(),
        });
        (id, user)
    }

    fn survivor(&self, mut id: UserId) -> UserId {
        while let Some(survivor) = self.survivors.get(&id) {
            id = *survivor;
        }
        id
    }

    fn link(&mut self, from: &str, to: &str, at: Timestamp) -> Effect {
        let survivor = self.user(to, at).0;
        let absorbed = self.user(from, at).0;
        if absorbed == survivor {
            return Effect::None;
        }
        let gone = self.users.remove(&absorbed).expect("user() has just found it");
        self.survivors.insert(absorbed, survivor);
        let user = self.users.get_mut(&survivor).expect("user() has just found it");
        for (name, (value, since)) in gone.traits {
            if user.traits.get(&name).is_none_or(|(_, known)| *known < since) {
                user.traits.insert(name, (value, since));
            }
        }
        for event in gone.events {
            user.events.push(Arc::new(Event { user_id: survivor, ..(*event).clone() }));
        }
        user.events.sort_by_key(|event| event.position);
        Effect::Merge { absorbed, survivor }
    }
}

impl User {
    /// For each key the newer value wins. Of two with the same time, the later record wins.
    fn set_traits(&mut self, traits: &Json, created_at: Timestamp) {
        for (name, value) in traits.as_object().into_iter().flatten() {
            if self.traits.get(name).is_none_or(|(_, since)| *since <= created_at) {
                self.traits.insert(name.clone(), ((!value.is_null()).then(|| value.clone()), created_at));
            }
        }
    }

    /// Returns whether the event is a duplicate of an accepted one.
    fn has_received(&self, event: &Event) -> bool {
        let before = |known: &Event| event.processed_at.0 - known.processed_at.0 <= DEDUPLICATION_MICROS;
        event.event_id.is_some() && self.events.iter().any(|known| known.event_id == event.event_id && before(known))
    }

    /// Returns the traits as one JSON object.
    pub(crate) fn traits_json(&self) -> Json {
        let present = self.traits.iter().filter_map(|(name, (value, _))| Some((name.clone(), value.clone()?)));
        Json::Object(present.collect())
    }
}

/// Returns the event as the engine gets it, by semantics §4.
#[expect(clippy::too_many_arguments, reason = "a record has that many parts, and this is its one reader")]
fn event(
    user_id: UserId,
    key: &str,
    at: Timestamp,
    position: Position,
    event_id: &Option<String>,
    created_at: Option<Timestamp>,
    fields: &Json,
    payload: &Json,
) -> Event {
    let text = |object: &Json, name: &str| object.get(name).and_then(Json::as_str).map(Box::from);
    let order_total = match payload.get("order_total") {
        Some(Json::String(text)) => Decimal::parse(text),
        Some(number @ Json::Number(_)) => Decimal::parse(&number.to_string()),
        _ => None,
    };
    let mut whole: Map<String, Json> = payload.as_object().cloned().unwrap_or_default();
    for (name, value) in fields.as_object().into_iter().flatten() {
        if !["id_type", "region", "device_type", "country"].contains(&name.as_str()) {
            whole.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    Event {
        user_id,
        event_id: event_id.as_deref().map(Box::from),
        client_ref_id: key.into(),
        id_type: Some("cookie".into()),
        region: text(fields, "region"),
        device_type: text(fields, "device_type"),
        country: text(fields, "country"),
        activity_type: text(payload, "activity_type"),
        url: text(payload, "url"),
        order_total,
        order_id: text(payload, "order_id"),
        element_id: text(payload, "element_id"),
        created_at: created_at.unwrap_or(at),
        processed_at: at,
        payload: Arc::new(Json::Object(whole)),
        position,
    }
}

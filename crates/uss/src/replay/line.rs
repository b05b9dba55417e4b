//! Reads the lines of a replay's input one by one.

use std::collections::BTreeMap;
use std::io::BufRead;

use ingestion_api::Limits;
use ingestion_api::admission::{EventDraft, Received, admit};
use ports::identities::Identity;
use ports::records::instant;
use ports::records::json_text::{JsonText, trees};
use segment_engine::time::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::error::{Problem, ReplayError};

/// The longest line. An event has at most 32 KiB, a where clause 32,768 characters.
const LINE_BYTES_MAX: u64 = 1 << 20;

pub(crate) struct Line<'a> {
    /// Both the time of receipt and now.
    pub(crate) at: Timestamp,
    pub(crate) action: Action<'a>,
}

pub(crate) enum Action<'a> {
    /// The tag of a segment, and its where clause; `None` deletes it.
    Segment(String, Option<String>),
    Event(Box<EventDraft<'a>>),
    Identify(Identify),
    Link(Link),
    /// Writes a checkpoint and reads it back.
    Restart,
    /// Lists the members of the segments with these tags.
    Members(Vec<String>),
}

/// Sets traits of a user.
pub(crate) struct Identify {
    pub(crate) identity: Identity,
    /// Since when the traits are true; `None` is the line's instant.
    pub(crate) created_at: Option<Timestamp>,
    /// Values by key; `null` removes a trait.
    pub(crate) traits: serde_json::Map<String, serde_json::Value>,
}

/// Says that two identities are one user's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// An identity of the user that is absorbed.
    #[serde(deserialize_with = "identity")]
    pub(crate) from: Identity,
    /// An identity of the user that remains.
    #[serde(deserialize_with = "identity")]
    pub(crate) to: Identity,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    at: String,
    segment: Option<SegmentFields>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    identify: Option<IdentifyFields>,
    link: Option<Link>,
    restart: Option<bool>,
    members: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentFields {
    tag: String,
    /// `null` deletes the segment. A missing field is an error.
    #[serde(rename = "whereStatement", deserialize_with = "Option::deserialize")]
    where_statement: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentifyFields {
    id: String,
    id_type: Option<String>,
    created_at: Option<String>,
    traits: BTreeMap<String, JsonText>,
}

/// Reads the next line that is not blank into `buffer` and sets `number` to its number. Returns
/// `false` at the end of the input.
pub(crate) fn next_line(input: &mut impl BufRead, number: &mut u64, buffer: &mut Vec<u8>) -> Result<bool, ReplayError> {
    loop {
        buffer.clear();
        let read = std::io::Read::take(&mut *input, LINE_BYTES_MAX + 1).read_until(b'\n', buffer)?;
        if read == 0 {
            return Ok(false);
        }
        *number += 1;
        if read as u64 > LINE_BYTES_MAX {
            return Err(Problem::new(format!("the line has more than {LINE_BYTES_MAX} bytes")).at(*number));
        }
        // The parser would count columns from behind a line break.
        buffer.truncate(buffer.trim_ascii_end().len());
        if !buffer.is_empty() {
            return Ok(true);
        }
    }
}

/// Parses a line.
pub(crate) fn parse<'a>(text: &'a [u8], limits: &Limits) -> Result<Line<'a>, Problem> {
    let fields: Fields<'a> = serde_json::from_slice(text).map_err(|error| not_a_line(&error))?;
    let at = instant::parse(&fields.at)
        .ok_or_else(|| Problem::new("`at` must be a time like 2026-01-01T00:00:00Z or 2026-01-01T00:00:00.000001Z"))?;
    Ok(Line { at, action: action(fields, limits)? })
}

fn action<'a>(fields: Fields<'a>, limits: &Limits) -> Result<Action<'a>, Problem> {
    let Fields { at: _, segment, event, identify, link, restart, members } = fields;
    let mut actions = Vec::with_capacity(1);
    if let Some(SegmentFields { tag, where_statement }) = segment {
        if tag.is_empty() {
            return Err(Problem::new("a segment needs a `tag`"));
        }
        actions.push(Action::Segment(tag, where_statement));
    }
    if let Some(event) = event {
        let draft = admit(Received::from(event.get().as_bytes()), limits).map_err(|rejection| {
            Problem::new(format!("the event is refused ({}): {}", rejection.code, rejection.message))
        })?;
        actions.push(Action::Event(Box::new(draft)));
    }
    if let Some(identify) = identify {
        actions.push(Action::Identify(identify.try_into()?));
    }
    if let Some(link) = link {
        actions.push(Action::Link(link));
    }
    match restart {
        Some(true) => actions.push(Action::Restart),
        Some(false) => return Err(Problem::new("`restart` can only be true")),
        None => {}
    }
    if let Some(members) = members {
        actions.push(Action::Members(members));
    }
    match (actions.pop(), actions.is_empty()) {
        (Some(action), true) => Ok(action),
        _ => Err(Problem::new(
            "a line needs `at` and exactly one of `segment`, `event`, `identify`, `link`, `restart` and `members`",
        )),
    }
}

impl TryFrom<IdentifyFields> for Identify {
    type Error = Problem;

    fn try_from(fields: IdentifyFields) -> Result<Self, Problem> {
        let IdentifyFields { id, id_type, created_at, traits } = fields;
        let created_at = match created_at {
            None => None,
            Some(text) => Some(instant::parse(&text).ok_or_else(|| {
                Problem::new("`identify.created_at` must be a time like 2026-01-01T00:00:00Z; leave it out to use `at`")
            })?),
        };
        if id.is_empty() {
            return Err(Problem::new("`identify.id` is empty"));
        }
        let traits = trees(&traits).map_err(|error| Problem::new(format!("`identify.traits`: {error} of a trait")))?;
        Ok(Identify { identity: Identity { id_type, id }, created_at, traits })
    }
}

fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Identity, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        id: String,
        id_type: Option<String>,
    }
    let Fields { id, id_type } = Fields::deserialize(deserializer)?;
    if id.is_empty() {
        return Err(serde::de::Error::custom("an identity's `id` is empty"));
    }
    Ok(Identity { id_type, id })
}

/// serde counts lines within its input, which is one line here, so only the column is reported.
fn not_a_line(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) => Problem::new(format!("{reason} (column {})", error.column())),
        None => Problem::new(text),
    }
}

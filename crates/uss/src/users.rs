//! `uss users`: looks up users of a running service, their segments, and why they are in them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use reqwest::Url;
use segment_engine::ids::SegmentId;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::{Service, ServiceError};

/// Rows per request: the most that the API returns.
const PAGE_MAX: usize = 1_000;

/// What to look up.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum Action {
    /// Show a user and the segments the user is in
    Find(Find),
    /// Explain why a user is in a segment, or not, and when that changes
    Explain(Explain),
    /// List when a user entered and left segments, oldest first
    Transitions(Find),
    /// List the client ids of a segment's members
    Members(Members),
}

/// Names a user.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Find {
    /// The user's client id: a clientRefId, or the id of an identity
    #[arg(value_name = "CLIENT_ID")]
    client_id: String,
}

/// Names a user and a segment.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Explain {
    /// The user's client id: a clientRefId, or the id of an identity
    #[arg(value_name = "CLIENT_ID")]
    client_id: String,
    /// The segment's tag
    #[arg(value_name = "TAG")]
    tag: String,
}

/// Names a segment.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Members {
    /// The segment's tag
    #[arg(value_name = "TAG")]
    tag: String,
    /// Print only how many there are
    #[arg(long)]
    count: bool,
}

/// Why a look-up failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The service did not answer, or refused.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// No user has this client id.
    #[error("no user has the client id {0}")]
    UnknownUser(String),
}

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    data: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: i64,
    client_ref_id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    created_at: String,
    segments: Vec<Membership>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Membership {
    segment_id: SegmentId,
    created_at: String,
}

#[derive(Deserialize)]
struct Segment {
    id: SegmentId,
    tag: String,
}

#[derive(Deserialize)]
struct Transition {
    in_segments: Vec<SegmentId>,
    out_segments: Vec<SegmentId>,
    cause: String,
    effective_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    tag: String,
    member: bool,
    conditions: Vec<Condition>,
    next_change: Option<NextChange>,
}

#[derive(Deserialize)]
struct Condition {
    condition: String,
    truth: Option<bool>,
    values: Vec<Reading>,
    message: Option<String>,
}

/// The value of an expression in a condition.
#[derive(Deserialize)]
struct Reading {
    expression: String,
    value: serde_json::Value,
    counted: Option<u64>,
}

#[derive(Deserialize)]
struct NextChange {
    at: String,
    member: bool,
}

/// Runs an action against a service, and writes what it finds.
///
/// # Errors
/// See [`UsersError`].
pub(crate) async fn run(action: &Action, service: &Service, out: &mut dyn Write) -> Result<(), UsersError> {
    match action {
        Action::Find(find) => show(service, &find.client_id, out).await,
        Action::Explain(explain) => explanation(service, explain, out).await,
        Action::Transitions(find) => transitions(service, &find.client_id, out).await,
        Action::Members(members) => list_members(service, members, out).await,
    }
}

/// Returns a path of the API, with its segments and query escaped.
fn path(segments: &[&str], query: &[(&str, &str)]) -> String {
    let mut url = Url::parse("http://localhost/api/v1").expect("a constant URL");
    url.path_segments_mut().expect("an HTTP URL has a path").extend(segments);
    url.query_pairs_mut().extend_pairs(query);
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

async fn page<T: DeserializeOwned>(
    service: &Service,
    segments: &[&str],
    cursor: Option<String>,
) -> Result<Page<T>, ServiceError> {
    let limit = PAGE_MAX.to_string();
    let mut query = vec![("fresh", "true"), ("limit", &*limit)];
    query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
    service.get(&path(segments, &query)).await
}

async fn user(service: &Service, client_id: &str) -> Result<User, UsersError> {
    let path = path(&["users"], &[("clientRefId", client_id), ("fresh", "true")]);
    let found: Data<Option<User>> = service.get(&path).await?;
    found.data.ok_or_else(|| UsersError::UnknownUser(client_id.to_owned()))
}

/// Reads the tags of all segments, by id.
async fn tags(service: &Service) -> Result<BTreeMap<SegmentId, String>, UsersError> {
    let segments: Data<Vec<Segment>> = service.get("/api/v1/segments").await?;
    Ok(segments.data.into_iter().map(|segment| (segment.id, segment.tag)).collect())
}

/// A deleted segment has no tag any more.
fn tag_of(tags: &BTreeMap<SegmentId, String>, segment: SegmentId) -> String {
    tags.get(&segment).cloned().unwrap_or_else(|| format!("(deleted segment {segment})"))
}

async fn show(service: &Service, client_id: &str, out: &mut dyn Write) -> Result<(), UsersError> {
    let user = user(service, client_id).await?;
    let tags = tags(service).await?;
    let rows = [
        ("id", Some(user.id.to_string())),
        ("client id", user.client_ref_id),
        ("name", user.name),
        ("email", user.email),
        ("created", Some(user.created_at)),
    ];
    for (name, value) in rows {
        if let Some(value) = value {
            writeln!(out, "{name:<10} {value}")?;
        }
    }
    if user.segments.is_empty() {
        writeln!(out, "{:<10} none", "segments")?;
    }
    for (place, membership) in user.segments.iter().enumerate() {
        let name = if place == 0 { "segments" } else { "" };
        writeln!(out, "{name:<10} {} since {}", tag_of(&tags, membership.segment_id), membership.created_at)?;
    }
    Ok(())
}

async fn explanation(service: &Service, explain: &Explain, out: &mut dyn Write) -> Result<(), UsersError> {
    let user = user(service, &explain.client_id).await?;
    let path = path(&["users", &user.id.to_string(), "segments", &explain.tag, "explain"], &[]);
    let Data { data: explanation } = service.get::<Data<Explanation>>(&path).await?;
    let Explanation { tag, member, conditions, next_change } = explanation;
    writeln!(out, "{} is {} {tag}", explain.client_id, if member { "in" } else { "not in" })?;
    for Condition { condition, truth, values, message } in conditions {
        let truth = truth.map_or("unknown", |truth| if truth { "true" } else { "false" });
        writeln!(out, "  {truth:<8} {condition}")?;
        for Reading { expression, value, counted } in values {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let of = counted.map_or_else(String::new, |counted| format!(", from {counted} events"));
            writeln!(out, "  {:<8}   {expression} is {value}{of}", "")?;
        }
        if let Some(message) = message {
            writeln!(out, "  {:<8}   {message}", "")?;
        }
    }
    match next_change {
        Some(NextChange { at, member }) => {
            let verb = if member { "enters" } else { "leaves" };
            writeln!(out, "{verb} at {at} if nothing else happens")?;
        }
        None => writeln!(out, "stays as it is if nothing else happens")?,
    }
    Ok(())
}

async fn transitions(service: &Service, client_id: &str, out: &mut dyn Write) -> Result<(), UsersError> {
    let user = user(service, client_id).await?;
    let tags = tags(service).await?;
    let id = user.id.to_string();
    let mut cursor = None;
    loop {
        let page: Page<Transition> = page(service, &["users", &id, "transitions"], cursor).await?;
        for Transition { in_segments, out_segments, cause, effective_at } in page.data {
            let left = out_segments.iter().map(|segment| format!(" left {}", tag_of(&tags, *segment)));
            let entered = in_segments.iter().map(|segment| format!(" entered {}", tag_of(&tags, *segment)));
            let changes: Vec<String> = left.chain(entered).collect();
            writeln!(out, "{effective_at} {cause:<8}{}", changes.join(","))?;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn list_members(service: &Service, members: &Members, out: &mut dyn Write) -> Result<(), UsersError> {
    let (mut cursor, mut count) = (None, 0);
    loop {
        let page: Page<User> = page(service, &["users", "segment", &members.tag], cursor).await?;
        count += page.data.len();
        if !members.count {
            for user in page.data {
                writeln!(out, "{}", user.client_ref_id.unwrap_or_else(|| format!("(user {})", user.id)))?;
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if members.count {
        writeln!(out, "{count}")?;
    }
    Ok(())
}

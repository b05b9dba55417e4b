//! The names of the language, and suggestions for names that it does not have.

use super::quote::quoted;
use crate::plan::{EventColumn, UserColumn};

/// User columns, written `users.<name>`.
pub(super) const USER_COLUMNS: &[(&str, UserColumn)] =
    &[("email", UserColumn::Email), ("name", UserColumn::Name), ("created_at", UserColumn::CreatedAt)];

/// Every function, for suggestions.
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "bool_and",
    "bool_or",
    "btrim",
    "bucket",
    "coalesce",
    "count",
    "date_trunc",
    "extract",
    "first",
    "funnel",
    "jsonb_array_length",
    "last",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "min",
    "now",
    "nullif",
    "position",
    "replace",
    "right",
    "round",
    "rtrim",
    "segment",
    "split_part",
    "starts_with",
    "strpos",
    "substring",
    "sum",
    "to_timestamp",
    "trim",
    "upper",
];

/// Functions of other dialects, and what to write here.
const FOREIGN_FUNCTIONS: &[(&str, &str)] = &[
    ("age", "Write a difference: now() - created_at"),
    ("array_length", "Write jsonb_array_length(x)"),
    ("cardinality", "Write jsonb_array_length(x)"),
    ("ceil", "Use round(x)"),
    ("char_length", "Write length(x)"),
    ("character_length", "Write length(x)"),
    ("charindex", "Write strpos(x, 'part')"),
    ("concat", "Write x || y, or coalesce(x, '') || coalesce(y, '') where a part may be NULL"),
    ("concat_ws", "Write x || ', ' || y"),
    ("contains", "Write strpos(x, 'part') > 0, or x LIKE '%part%'"),
    ("ends_with", "Write x LIKE '%end'"),
    ("from_unixtime", "Write to_timestamp(seconds)"),
    ("instr", "Write strpos(x, 'part')"),
    ("mid", "Write substring(x, 2, 3)"),
    ("overlay", "Write left(x, 2) || 'new' || substring(x, 6)"),
    ("to_date", "Write x::date"),
    ("countif", "Write count(*) FILTER (WHERE …)"),
    ("current_date", "Write now()::date"),
    ("current_time", "Write now()"),
    ("date", "Write x::date"),
    ("date_part", "Write extract(field FROM x)"),
    ("datediff", "Write a difference: now() - created_at < INTERVAL '7 days'"),
    ("dateadd", "Write x + INTERVAL '7 days'"),
    ("every", "Write bool_and(x)"),
    ("exists", "Write count(*) FILTER (WHERE …) > 0"),
    ("floor", "Use round(x)"),
    ("getdate", "Write now()"),
    ("ifnull", "Write coalesce(x, y)"),
    ("json_array_length", "Write jsonb_array_length(x)"),
    ("jsonb_exists", "Write payload->'tags' ? 'a'"),
    ("last_value", "Write last(x)"),
    ("first_value", "Write first(x)"),
    ("len", "Write length(x)"),
    ("localtimestamp", "Write now()"),
    ("nvl", "Write coalesce(x, y)"),
    ("regexp_matches", "Write x ~ 'pattern'"),
    ("sysdate", "Write now()"),
    ("current_user", "A clause is already about one user"),
];

/// Returns the event column with this name.
pub(super) fn event_column(name: &str) -> Option<EventColumn> {
    EventColumn::ALL.into_iter().find(|column| names_of(*column).any(|known| known == name))
}

/// Returns all names that a clause may use for an event column. The first is that of the normal
/// form.
fn names_of(column: EventColumn) -> impl Iterator<Item = &'static str> {
    let short = (column == EventColumn::EventId).then_some("id");
    [column.name(), column.table_name()].into_iter().chain(short)
}

/// Suggests what to write instead of an unknown column, given its parts as written.
pub(super) fn suggest_column(parts: &[&str]) -> String {
    let (table, path) = match parts {
        [table, path @ ..] if !path.is_empty() => (table.to_lowercase(), path),
        _ => (String::new(), parts),
    };
    let name = path[0];
    let bare = name.to_lowercase();
    let is_user_column = path.len() == 1 && USER_COLUMNS.iter().any(|(known, _)| *known == bare);
    match table.as_str() {
        "traits" | "trait" => return format!("Write {}", property("traits", path)),
        "payload" | "properties" | "events" | "event" => {
            return match event_column(&bare).filter(|_| path.len() == 1) {
                Some(_) if table.starts_with("event") => format!("Write {bare}, without the table"),
                Some(_) => format!("Write {bare}, which is a column"),
                None => format!("Write {}", property("payload", path)),
            };
        }
        "users" | "user" if is_user_column => return format!("Did you mean users.{bare}?"),
        "users" | "user" => {
            let known: Vec<String> = USER_COLUMNS.iter().map(|(name, _)| format!("users.{name}")).collect();
            return format!(
                "The user's columns are {}; other attributes are {}",
                known.join(", "),
                property("traits", path)
            );
        }
        _ => {}
    }
    if !table.is_empty() && path.len() == 1 && event_column(&bare).is_some() {
        return format!("Write {bare}, without the table");
    }
    if is_user_column {
        return format!("Did you mean users.{bare}?");
    }
    if path.len() == 1 && table.is_empty() && matches!(bare.as_str(), "payload" | "traits") {
        return format!("Name a property: {bare}->>'name'");
    }
    let near =
        nearest(&bare, EventColumn::ALL.into_iter().flat_map(names_of)).filter(|_| table.is_empty() && path.len() == 1);
    match near {
        Some(near) => format!("Did you mean {near}?"),
        None => {
            let (payload, traits) = (property("payload", parts), property("traits", parts));
            format!("A property of the payload is {payload}, an attribute of the user is {traits}")
        }
    }
}

/// `payload->'cart'->>'size'`.
fn property(root: &str, path: &[&str]) -> String {
    let steps = path.iter().enumerate().map(|(place, key)| {
        let arrow = if place + 1 == path.len() { "->>" } else { "->" };
        format!("{arrow}{}", quoted(key))
    });
    format!("{root}{}", steps.collect::<String>())
}

/// Suggests what to write instead of an unknown function.
pub(super) fn suggest_function(name: &str) -> String {
    if let Some((_, advice)) = FOREIGN_FUNCTIONS.iter().find(|(known, _)| *known == name) {
        return (*advice).to_owned();
    }
    match nearest(name, FUNCTIONS.iter().copied()) {
        Some(near) => format!("Did you mean {near}?"),
        None => format!("The functions are {}", FUNCTIONS.join(", ")),
    }
}

/// Returns the nearest candidate, at most a third of the name's length away.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

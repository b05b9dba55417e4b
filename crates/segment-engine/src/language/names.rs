//! The names of the language, and the nearest one to a name that is none of them.

use crate::plan::{EventColumn, UserColumn};

/// Event columns by every name they answer to. The first name of a column is its name in the normal form.
pub(super) const EVENT_COLUMNS: &[(&str, EventColumn)] = &[
    ("event_id", EventColumn::EventId),
    ("id", EventColumn::EventId),
    ("user_id", EventColumn::UserId),
    ("client_ref_id", EventColumn::ClientRefId),
    ("id_type", EventColumn::IdType),
    ("region", EventColumn::Region),
    ("device_type", EventColumn::DeviceType),
    ("country", EventColumn::Country),
    ("activity_type", EventColumn::ActivityType),
    ("payload_activity_type", EventColumn::ActivityType),
    ("url", EventColumn::Url),
    ("payload_url", EventColumn::Url),
    ("order_total", EventColumn::OrderTotal),
    ("payload_order_total", EventColumn::OrderTotal),
    ("order_id", EventColumn::OrderId),
    ("payload_order_id", EventColumn::OrderId),
    ("element_id", EventColumn::ElementId),
    ("payload_element_id", EventColumn::ElementId),
    ("created_at", EventColumn::CreatedAt),
    ("processed_at", EventColumn::ProcessedAt),
];

/// User columns, written `users.<name>`.
pub(super) const USER_COLUMNS: &[(&str, UserColumn)] =
    &[("email", UserColumn::Email), ("name", UserColumn::Name), ("created_at", UserColumn::CreatedAt)];

/// Every function, for suggestions.
const FUNCTIONS: &[&str] = &[
    "abs",
    "avg",
    "bool_and",
    "bool_or",
    "bucket",
    "coalesce",
    "count",
    "date_trunc",
    "extract",
    "first",
    "funnel",
    "jsonb_array_length",
    "last",
    "length",
    "lower",
    "max",
    "min",
    "now",
    "nullif",
    "round",
    "segment",
    "starts_with",
    "sum",
    "upper",
];

/// What people write from other dialects, and what to write here.
const FOREIGN_FUNCTIONS: &[(&str, &str)] = &[
    ("age", "Write a difference: now() - created_at"),
    ("array_length", "Write jsonb_array_length(x)"),
    ("cardinality", "Write jsonb_array_length(x)"),
    ("ceil", "Use round(x)"),
    ("char_length", "Write length(x)"),
    ("concat", "Compare the parts separately"),
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
    ("position", "Write x LIKE '%part%'"),
    ("regexp_matches", "Write x ~ 'pattern'"),
    ("substring", "Write x LIKE 'start%' or starts_with(x, 'start')"),
    ("sysdate", "Write now()"),
    ("to_timestamp", "Write x::timestamptz"),
    ("trim", "Compare with LIKE"),
    ("current_user", "A clause is already about one user"),
];

/// The event column of this name.
pub(super) fn event_column(name: &str) -> Option<EventColumn> {
    EVENT_COLUMNS.iter().find(|(known, _)| *known == name).map(|(_, column)| *column)
}

/// The name of an event column in the normal form.
pub(super) fn event_column_name(column: EventColumn) -> &'static str {
    EVENT_COLUMNS.iter().find(|(_, known)| *known == column).map_or("", |(name, _)| name)
}

/// What to write instead of an unknown column.
pub(super) fn suggest_column(name: &str) -> String {
    let user_columns = USER_COLUMNS.iter().map(|(name, _)| *name);
    let bare = name.strip_prefix("users.").or_else(|| name.strip_prefix("events.")).unwrap_or(name);
    if event_column(bare).is_some() && name.starts_with("events.") {
        return format!("Write {bare}, without the table");
    }
    if !name.starts_with("events.") && USER_COLUMNS.iter().any(|(known, _)| *known == bare) {
        return format!("Did you mean users.{bare}?");
    }
    if name.starts_with("users.") {
        let known: Vec<String> = user_columns.map(|name| format!("users.{name}")).collect();
        return format!("The user's columns are {}; other attributes are traits->>'{bare}'", known.join(", "));
    }
    if matches!(bare, "payload" | "traits") {
        return format!("Name a property: {bare}->>'name'");
    }
    match nearest(bare, EVENT_COLUMNS.iter().map(|(name, _)| *name)) {
        Some(near) => format!("Did you mean {near}?"),
        None => {
            format!("A property of the payload is payload->>'{bare}', an attribute of the user is traits->>'{bare}'")
        }
    }
}

/// What to write instead of an unknown function.
pub(super) fn suggest_function(name: &str) -> String {
    if let Some((_, advice)) = FOREIGN_FUNCTIONS.iter().find(|(known, _)| *known == name) {
        return (*advice).to_owned();
    }
    match nearest(name, FUNCTIONS.iter().copied()) {
        Some(near) => format!("Did you mean {near}?"),
        None => format!("The functions are {}", FUNCTIONS.join(", ")),
    }
}

/// The nearest candidate within a third of the name's length.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance, one row at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

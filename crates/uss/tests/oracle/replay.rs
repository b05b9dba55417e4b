//! Writes a case as NDJSON for `uss replay`, so that a reported disagreement can be run by hand.

use serde_json::{Value as Json, json};

use crate::history::{Case, What};

/// Returns the lines. The `members` lines of an instant follow its records.
pub(crate) fn ndjson(case: &Case) -> String {
    let mut lines: Vec<(i64, Json)> = Vec::new();
    let mut tags: Vec<&str> = Vec::new();
    for step in &case.steps {
        let at = step.at.to_string();
        let line = match &step.what {
            What::Restart => json!({ "at": at, "restart": true }),
            What::Segment { tag, clause } => {
                if !tags.contains(&tag.as_str()) {
                    tags.push(tag);
                }
                json!({ "at": at, "segment": { "tag": tag, "whereStatement": clause } })
            }
            What::User { key, email, name } => {
                json!({ "at": at, "user": { "id": key, "id_type": "cookie", "email": email, "name": name } })
            }
            What::Event { key, event_id, created_at, fields, payload } => {
                let mut event = json!({ "id": key, "id_type": "cookie", "payload": payload });
                let parts = event.as_object_mut().expect("it was written as an object");
                parts.extend(fields.as_object().cloned().unwrap_or_default());
                if let Some(event_id) = event_id {
                    parts.insert("event_id".to_owned(), json!(event_id));
                }
                if let Some(created_at) = created_at {
                    parts.insert("created_at".to_owned(), json!(created_at.to_string()));
                }
                json!({ "at": at, "event": event })
            }
            What::Traits { key, created_at, traits } => json!({ "at": at, "identify":
                { "id": key, "id_type": "cookie", "created_at": created_at.to_string(), "traits": traits } }),
            What::Link { from, to } => json!({ "at": at, "link":
                { "from": { "id": from, "id_type": "cookie" }, "to": { "id": to, "id_type": "cookie" } } }),
        };
        lines.push((step.at.0, line));
    }
    for instant in &case.instants {
        let members_line = json!({ "at": instant.to_string(), "members": tags });
        let place = lines.partition_point(|(at, _)| *at <= instant.0);
        lines.insert(place, (instant.0, members_line));
    }
    lines.iter().map(|(_, line)| format!("{line}\n")).collect()
}

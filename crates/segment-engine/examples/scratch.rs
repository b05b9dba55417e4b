#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use segment_engine::{eval::*, event::*, language::compile, sql::*, time::*, value::*};
use std::io::BufRead;
fn main() {
    for line in std::io::stdin().lock().lines() {
        let v: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let expr = v["expr"].as_str().unwrap();
        let created = Timestamp::parse_rfc3339(v["created_at"].as_str().unwrap_or("2026-01-01T00:00:00Z")).unwrap();
        let now = Timestamp::parse_rfc3339("2026-11-28T19:00:00Z").unwrap();
        let event = Event {
            user_id: UserId(1),
            event_id: None,
            client_ref_id: "c".into(),
            id_type: None,
            region: None,
            device_type: None,
            country: None,
            activity_type: None,
            url: None,
            order_total: None,
            order_id: None,
            element_id: None,
            created_at: created,
            processed_at: created,
            payload: serde_json::json!({"x": v["x"], "y": v["y"]}).into(),
            position: Position { partition: 0, offset: 0 },
        };
        let plan = match compile(&format!("last({expr}) IS NULL")) {
            Ok(p) => p,
            Err(e) => {
                println!("{}", serde_json::json!({"expr": expr, "x": v["x"], "error": format!("{e:?}")}));
                continue;
            }
        };
        let argument = plan.aggregates[0].argument.clone().unwrap();
        let value = evaluate(&argument, &mut EventScope { event: &event, now });
        let text = match value.cast(Type::Text) {
            Value::Text(t) => serde_json::json!(t),
            _ => serde_json::Value::Null,
        };
        let sql = members_query(&plan, &|_| None, now).unwrap();
        let at = sql.find("last(").unwrap() + 5;
        let end = sql.rfind(" ORDER BY e.created_at, e.processed").unwrap();
        println!(
            "{}",
            serde_json::json!({"expr": expr, "x": v["x"], "created_at": created.to_string(), "payload": event.payload.to_string(), "engine": text, "type": format!("{:?}", argument.value_type()), "sql": &sql[at..end]})
        );
    }
}

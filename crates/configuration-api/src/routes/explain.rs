//! `/api/v1/users/:id/segments/:tag/explain`: why a user is in a segment or not, and until when.

use axum::extract::State;
use ports::config_store::Segment;
use ports::records::instant;
use ports::segment_queries::{ConditionReport, Evidence, Explanation, ValueReport};
use segment_engine::accumulator::ENTRIES_MAX;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use segment_engine::value::{Type, Value};
use serde_json::json;
use uss_http::Problem;
use uss_http::extract::Path;

use crate::api::Api;
use crate::wire::response::Data;

pub(crate) async fn get(
    State(api): State<Api>,
    Path((user, tag)): Path<(i64, String)>,
) -> Result<Data<serde_json::Value>, Problem> {
    let user = api.user(user).await?.id;
    let segment = api.segment_by_tag(&tag).await?;
    let explanation = api.queries.explain(user, &tag).await?;
    Ok(Data(view(user, &segment, explanation)))
}

fn view(user: UserId, segment: &Segment, explanation: Explanation) -> serde_json::Value {
    let member = explanation.member;
    let next = explanation.next_change.map(|at| json!({"at": instant::format(at), "member": !member}));
    json!({
        "userId": user,
        "segmentId": segment.id,
        "tag": segment.tag,
        "version": explanation.version,
        "at": instant::format(explanation.at),
        "member": member,
        "normalForm": explanation.normal_form,
        "conditions": explanation.conditions.into_iter().map(condition).collect::<Vec<_>>(),
        "nextChange": next,
    })
}

fn condition(report: ConditionReport) -> serde_json::Value {
    let message = report.limited.then(|| {
        format!(
            "the user has more than {ENTRIES_MAX} events or values in one window; those beyond are left out, so the condition \
             may be wrong. Shorten the window or use a lower threshold"
        )
    });
    json!({
        "condition": report.condition,
        "truth": report.truth,
        "values": report.values.into_iter().map(value).collect::<Vec<_>>(),
        "evidence": report.evidence.into_iter().map(evidence).collect::<Vec<_>>(),
        "nextChange": report.next_change.map(instant::format),
        "limited": report.limited,
        "message": message,
    })
}

fn value(report: ValueReport) -> serde_json::Value {
    json!({"expression": report.expression, "value": plain(report.value), "counted": report.counted})
}

fn evidence(evidence: Evidence) -> serde_json::Value {
    json!({
        "of": evidence.of,
        "createdAt": evidence.created_at.map(instant::format),
        "value": evidence.value.map(plain),
        "until": (evidence.until < Timestamp::MAX).then(|| instant::format(evidence.until)),
    })
}

/// A value in JSON: instants as RFC 3339, and what JSON has no form for as the string that SQL
/// casts it to.
fn plain(value: Value) -> serde_json::Value {
    match value {
        Value::Bool(truth) => json!(truth),
        Value::Int(number) => json!(number),
        Value::Timestamp(at) => json!(instant::format(at)),
        other => match other.cast(Type::Text) {
            Value::Text(text) => json!(&*text),
            _ => serde_json::Value::Null,
        },
    }
}

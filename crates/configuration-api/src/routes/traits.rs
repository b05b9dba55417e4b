//! `/api/v1/users/:id/traits`

use std::collections::BTreeMap;

use axum::extract::State;
use ports::ErrorCode;
use ports::config_store::true_since;
use ports::records::instant;
use ports::records::json_text::JsonText;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;
use serde::Deserialize;
use uss_http::Problem;
use uss_http::extract::{Json, Path, Query};

use crate::api::Api;
use crate::wire::response::{Data, Warning, WithWarnings};
use crate::wire::{fields, views};

/// The most traits set by one call.
const TRAITS_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PatchQuery {
    created_at: Option<String>,
}

pub(crate) async fn get(
    State(api): State<Api>,
    Path(user): Path<i64>,
) -> Result<Data<BTreeMap<String, JsonText>>, Problem> {
    Ok(Data(views::traits(api.store.traits(UserId(user)).await?)))
}

/// Sets the traits in the body and leaves the others; null removes a trait. `?createdAt=` says
/// since when they hold; without it, now. A time more than five minutes ahead counts as now, with a
/// warning.
pub(crate) async fn patch(
    State(api): State<Api>,
    Path(user): Path<i64>,
    Query(query): Query<PatchQuery>,
    Json(traits): Json<BTreeMap<String, JsonText>>,
) -> Result<WithWarnings<BTreeMap<String, JsonText>>, Problem> {
    if traits.len() > TRAITS_MAX {
        return Err(Problem::invalid(ErrorCode::TooManyTraits, format!("at most {TRAITS_MAX} traits in one call")));
    }
    for (key, value) in &traits {
        fields::name("the name of a trait", key)?;
        fields::json(&format!("the trait {key}"), value.as_str())?;
    }
    let now = api.now();
    let written = query.created_at.as_deref().map(read_time).transpose()?.unwrap_or(now);
    let created_at = true_since(written, now);
    let warnings = if created_at == written { Vec::new() } else { vec![ahead(now)] };
    let data = views::traits(api.store.set_traits(UserId(user), traits, created_at).await?);
    Ok(WithWarnings { data, warnings })
}

fn read_time(text: &str) -> Result<Timestamp, Problem> {
    instant::parse(text).ok_or_else(|| {
        Problem::invalid(
            ErrorCode::InvalidTime,
            "createdAt must be a time like 2026-01-31T12:00:00Z or 2026-01-31T14:00:00%2B02:00, in the years 0000 to 9999 in UTC",
        )
    })
}

fn ahead(now: Timestamp) -> Warning {
    let message = format!(
        "createdAt is more than five minutes ahead, so the time of receipt, {}, was taken; check the client's clock",
        instant::format(now)
    );
    Warning { code: ErrorCode::CreatedAtAhead, message }
}

//! `/api/v1/activities`, and their links to segments, from both sides.

use axum::extract::State;
use axum::response::Response;
use ports::ErrorCode;
use ports::config_store::{Activity, ActivityChange, NewActivity};
use segment_engine::ids::SegmentId;
use serde::Deserialize;
use uss_http::extract::{Json, Path, Query};
use uss_http::{PageRequest, Problem};

use crate::api::Api;
use crate::wire::fields::{self, nullable};
use crate::wire::lists::json_list;
use crate::wire::response::{Created, DONE, Data};
use crate::wire::views::ActivityView;

#[derive(Debug, Deserialize)]
pub(crate) struct NewBody {
    title: Option<String>,
    description: Option<String>,
    code: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ChangeBody {
    title: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    code: Option<String>,
}

fn check(title: Option<&str>, description: Option<&str>, code: Option<&str>) -> Result<(), Problem> {
    fields::optional_name("title", title)?;
    fields::description(description)?;
    code.map_or(Ok(()), |code| fields::name("code", code))
}

fn not_found(wanted: &str) -> Problem {
    Problem::not_found(ErrorCode::ActivityNotFound, format!("there is no activity {wanted}; check it"))
}

pub(crate) async fn list(State(api): State<Api>, Query(request): Query<PageRequest>) -> Result<Response, Problem> {
    let store = api.store;
    let fetch = move |rows| {
        let store = store.clone();
        async move { store.activities(rows).await }
    };
    json_list::<Activity, ActivityView, _, _>(&request, fetch, |activity| activity.id).await
}

pub(crate) async fn create(
    State(api): State<Api>,
    Json(body): Json<NewBody>,
) -> Result<Created<ActivityView>, Problem> {
    let NewBody { title, description, code } = body;
    check(title.as_deref(), description.as_deref(), Some(&code))?;
    let new = NewActivity { title: title.unwrap_or_else(|| code.clone()), description, code };
    Ok(Created(api.store.create_activity(new, api.now()).await?.into()))
}

pub(crate) async fn get(State(api): State<Api>, Path(id): Path<i64>) -> Result<Data<ActivityView>, Problem> {
    let found = api.store.activity(id).await?;
    Ok(Data(found.ok_or_else(|| not_found(&id.to_string()))?.into()))
}

pub(crate) async fn by_code(State(api): State<Api>, Path(code): Path<String>) -> Result<Data<ActivityView>, Problem> {
    let found = api.store.activity_by_code(&code).await?;
    Ok(Data(found.ok_or_else(|| not_found(&format!("with the code {code:?}")))?.into()))
}

pub(crate) async fn update(
    State(api): State<Api>,
    Path(id): Path<i64>,
    Json(body): Json<ChangeBody>,
) -> Result<Data<ActivityView>, Problem> {
    let ChangeBody { title, description, code } = body;
    check(title.as_deref(), description.as_ref().and_then(Option::as_deref), code.as_deref())?;
    let change = ActivityChange { title, description, code };
    Ok(Data(api.store.update_activity(id, change, api.now()).await?.into()))
}

pub(crate) async fn delete(State(api): State<Api>, Path(id): Path<i64>) -> Result<Data<bool>, Problem> {
    api.store.delete_activity(id).await?;
    Ok(DONE)
}

pub(crate) async fn link(
    State(api): State<Api>,
    Path((activity, segment)): Path<(i64, SegmentId)>,
) -> Result<Data<bool>, Problem> {
    api.store.link_activity(activity, segment).await?;
    Ok(DONE)
}

pub(crate) async fn unlink(
    State(api): State<Api>,
    Path((activity, segment)): Path<(i64, SegmentId)>,
) -> Result<Data<bool>, Problem> {
    api.store.unlink_activity(activity, segment).await?;
    Ok(DONE)
}

pub(crate) async fn link_from_segment(
    api: State<Api>,
    Path((segment, activity)): Path<(SegmentId, i64)>,
) -> Result<Data<bool>, Problem> {
    link(api, Path((activity, segment))).await
}

pub(crate) async fn unlink_from_segment(
    api: State<Api>,
    Path((segment, activity)): Path<(SegmentId, i64)>,
) -> Result<Data<bool>, Problem> {
    unlink(api, Path((activity, segment))).await
}

pub(crate) async fn of_segment(
    State(api): State<Api>,
    Path(segment): Path<SegmentId>,
) -> Result<Data<Vec<ActivityView>>, Problem> {
    let linked = api.store.activities_of(segment).await?;
    Ok(Data(linked.into_iter().map(ActivityView::from).collect()))
}

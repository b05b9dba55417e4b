//! `/api/v1/segments`: definitions, and validation and previews of where clauses.

pub(super) mod clause;
mod saved;

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use ports::ErrorCode;
use ports::config_store::{NewSegment, Segment, SegmentChange, SegmentKind};
use segment_engine::ids::SegmentId;
use serde::Deserialize;
use serde_json::{Value, json};
use uss_http::extract::{Json, Path, Query};
use uss_http::{PageRequest, Problem};

use self::saved::SavedView;
use super::users::FreshQuery;
use crate::api::Api;
use crate::wire::fields::{self, nullable};
use crate::wire::lists::json_list;
use crate::wire::response::{Created, DONE, Data};
use crate::wire::views::{ProgressView, SegmentView, UserView};
use ports::records::instant;

/// The most users that a preview lists.
const SAMPLE_MAX: usize = 100;
const SAMPLE_DEFAULT: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Computed,
    Manual,
}

impl From<Kind> for SegmentKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Computed => SegmentKind::Computed,
            Kind::Manual => SegmentKind::Manual,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewBody {
    title: Option<String>,
    description: Option<String>,
    tag: String,
    where_statement: Option<String>,
    #[serde(default)]
    is_generic: bool,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeBody {
    title: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    description: Option<Option<String>>,
    tag: Option<String>,
    where_statement: Option<String>,
    is_generic: Option<bool>,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SaveOptions {
    /// Whether the response says how many users enter and leave, and the progress, for which it
    /// waits.
    #[serde(default)]
    estimate: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClauseBody {
    where_statement: String,
    sample: Option<usize>,
}

impl NewBody {
    fn segment(self) -> Result<NewSegment, Problem> {
        let NewBody { title, description, tag, where_statement, is_generic, kind } = self;
        fields::tag("tag", &tag)?;
        fields::optional_name("title", title.as_deref())?;
        fields::description(description.as_deref())?;
        let kind = kind.unwrap_or(Kind::Computed);
        let (where_statement, uses) = match (kind, where_statement) {
            (Kind::Computed, Some(clause)) => clause_and_uses(clause)?,
            (Kind::Computed, None) => return Err(clause_missing()),
            (Kind::Manual, clause) => (no_clause(clause)?, Vec::new()),
        };
        let title = title.unwrap_or_else(|| tag.clone());
        Ok(NewSegment { title, description, tag, where_statement, is_generic, kind: kind.into(), uses })
    }
}

impl ChangeBody {
    fn change(self, old: &Segment) -> Result<SegmentChange, Problem> {
        let ChangeBody { title, description, tag, where_statement, is_generic, kind } = self;
        fields::optional_name("title", title.as_deref())?;
        fields::description(description.as_ref().and_then(Option::as_deref))?;
        tag.as_deref().map_or(Ok(()), |tag| fields::tag("tag", tag))?;
        if kind.is_some_and(|kind| SegmentKind::from(kind) != old.kind) {
            let message = "the kind of a segment never changes; create another segment";
            return Err(Problem::invalid(ErrorCode::KindFixed, message));
        }
        let clause = match (old.kind, where_statement) {
            (_, None) => None,
            (SegmentKind::Computed, Some(clause)) => Some(clause_and_uses(clause)?),
            (SegmentKind::Manual, Some(clause)) => Some((no_clause(Some(clause))?, Vec::new())),
        };
        Ok(SegmentChange { title, description, tag, clause, is_generic })
    }
}

fn clause_and_uses(clause: String) -> Result<(String, Vec<String>), Problem> {
    let plan = clause::checked(&clause)?;
    Ok((clause, plan.segments))
}

fn clause_missing() -> Problem {
    let message =
        "whereStatement is missing; \"\" selects every known user, \"kind\": \"manual\" makes a list kept by hand";
    Problem::invalid(ErrorCode::WhereMissing, message)
}

fn no_clause(clause: Option<String>) -> Result<String, Problem> {
    match clause {
        Some(clause) if !clause.trim().is_empty() => {
            let message = "a manual segment has no where clause; leave whereStatement out, or leave out the kind";
            Err(Problem::invalid(ErrorCode::ManualWithClause, message))
        }
        _ => Ok(String::new()),
    }
}

pub(crate) async fn list(State(api): State<Api>, Query(request): Query<PageRequest>) -> Result<Response, Problem> {
    let store = api.store;
    let fetch = move |rows| {
        let store = store.clone();
        async move { store.segments(rows).await }
    };
    json_list::<Segment, SegmentView, _, _>(&request, fetch, |segment| segment.id.0).await
}

pub(crate) async fn create(
    State(api): State<Api>,
    Query(options): Query<SaveOptions>,
    Json(body): Json<NewBody>,
) -> Result<Created<SavedView>, Problem> {
    let segment = body.segment()?;
    let place = api.segments.place(api.store.as_ref()).await?;
    let segment = api.store.create_segment(segment, api.now()).await?;
    drop(place);
    let before = match segment.kind {
        SegmentKind::Computed if options.estimate => Some(Ok(BTreeSet::new())),
        SegmentKind::Computed => Some(saved::not_asked()),
        SegmentKind::Manual => None,
    };
    Ok(Created(saved::view(&api, segment, before, options.estimate).await))
}

pub(crate) async fn get(State(api): State<Api>, Path(id): Path<SegmentId>) -> Result<Data<SegmentView>, Problem> {
    Ok(Data(api.segment(id).await?.into()))
}

pub(crate) async fn update(
    State(api): State<Api>,
    Path(id): Path<SegmentId>,
    Query(options): Query<SaveOptions>,
    Json(body): Json<ChangeBody>,
) -> Result<Data<SavedView>, Problem> {
    let old = api.segment(id).await?;
    let change = body.change(&old)?;
    let before = match &change.clause {
        Some((clause, _)) if *clause == old.where_statement => None,
        Some(_) if options.estimate => Some(saved::members_before(&api, id).await),
        Some(_) => Some(saved::not_asked()),
        None => None,
    };
    let segment = api.store.update_segment(id, change, api.now()).await?;
    Ok(Data(saved::view(&api, segment, before, options.estimate).await))
}

pub(crate) async fn delete(State(api): State<Api>, Path(id): Path<SegmentId>) -> Result<Data<bool>, Problem> {
    api.store.delete_segment(id).await?;
    Ok(DONE)
}

pub(crate) async fn generics_and_by(
    State(api): State<Api>,
    Path(code): Path<String>,
) -> Result<Data<Vec<SegmentView>>, Problem> {
    let found = api.store.generics_and_by(&code).await?;
    Ok(Data(found.into_iter().map(SegmentView::from).collect()))
}

pub(crate) async fn validate(State(api): State<Api>, Json(body): Json<ClauseBody>) -> Result<Data<Value>, Problem> {
    let plan = clause::checked(&body.where_statement)?;
    for tag in &plan.segments {
        api.segment_by_tag(tag).await.map_err(|_| {
            Problem::invalid(
                ErrorCode::UnknownSegment,
                format!("there is no segment with the tag '{tag}'; create it first"),
            )
        })?;
    }
    Ok(Data(json!({
        "valid": true,
        "normalForm": plan.normal_form,
        "segments": plan.segments,
        "cost": clause::cost(&plan),
    })))
}

pub(crate) async fn preview(
    State(api): State<Api>,
    Query(FreshQuery { fresh }): Query<FreshQuery>,
    Json(body): Json<ClauseBody>,
) -> Result<Data<Value>, Problem> {
    clause::checked(&body.where_statement)?;
    let sample = body.sample.unwrap_or(SAMPLE_DEFAULT);
    if sample > SAMPLE_MAX {
        return Err(Problem::invalid(ErrorCode::InvalidSample, format!("sample must be at most {SAMPLE_MAX}")));
    }
    let preview = api.queries.preview(&body.where_statement, sample, fresh).await?;
    let mut users = Vec::with_capacity(preview.sample.len());
    for id in preview.sample {
        users.extend(api.store.user(id).await?.map(UserView::from));
    }
    let as_of = instant::format(preview.as_of);
    Ok(Data(json!({"size": preview.size, "population": preview.population, "sample": users, "asOf": as_of})))
}

pub(crate) async fn progress(State(api): State<Api>, Path(id): Path<SegmentId>) -> Result<Data<ProgressView>, Problem> {
    let segment = api.segment(id).await?;
    Ok(Data(ProgressView::new(id, &api.queries.progress(segment.id).await?)))
}

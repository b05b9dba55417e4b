//! The routes of the ingestion API.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Extension, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ports::ErrorCode;
use ports::event_sink::SinkOutcome;
use serde::Deserialize;
use serde_json::{Value, json};
use uss_http::extract::{Json, Query};
use uss_http::operations::{self, Health};
use uss_http::serve::{Shape, finish};
use uss_http::{Access, AllowedOrigins, ApiKeys, Kind, Problem};

use crate::admission::Received;
use crate::behind::BehindMax;
use crate::body;
use crate::cors;
use crate::errors;
use crate::misplaced::Warnings;
use crate::outcome::{self, Outcome};
use crate::pipeline::{IngestError, Ingestion, Options, Processed, UnknownUsers};
use crate::split::{Events, split};
use crate::stream::Run;
use crate::unpack::{gunzip, is_packed, unpack};

/// The ingestion API.
pub fn router(ingestion: Arc<Ingestion>, keys: &ApiKeys, origins: &AllowedOrigins) -> Router {
    let events = Router::new().route("/api/v1/events", post(post_events));
    // The pace counts what is sent, so it stands around the unpacking.
    let others =
        errors::routes().route("/api/v1/users", get(find_user)).layer(from_fn_with_state(ingestion.clone(), unpack));
    let others = ingestion.limits.body_pace.hold(others);
    let guarded = keys.guard(events, Access::Ingest).merge(keys.guard(others, Access::Admin));
    let health = operations::health({
        let ingestion = Arc::clone(&ingestion);
        move || check_health(Arc::clone(&ingestion))
    });
    let routes = guarded.with_state(ingestion).merge(health);
    finish(routes, Shape::Ingestion).layer(cors::layer(origins))
}

/// Events need the log and the look-up of users.
async fn check_health(ingestion: Arc<Ingestion>) -> Health {
    let (log, users) = tokio::join!(
        operations::check(ErrorCode::LogUnavailable, ingestion.log().ping()),
        operations::check(ErrorCode::UsersUnavailable, ingestion.identities().ping()),
    );
    vec![("log", log), ("users", users)]
}

/// Options of one request, for admins: an import creates its users, and its event ids dedupe forever.
#[derive(Debug, Deserialize)]
struct EventsQuery {
    unknown_users: Option<UnknownUsers>,
    #[serde(default)]
    dedupe_forever: bool,
}

async fn post_events(
    State(ingestion): State<Arc<Ingestion>>,
    Extension(access): Extension<Access>,
    Query(query): Query<EventsQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let options = options(&ingestion, access, &query)?;
    let client = request.extensions().get().map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip());
    let (is_packed, media) = (is_packed(request.headers())?, media(request.headers())?);
    let behind_max = BehindMax::of(request.headers(), &ingestion.limits);
    let body = request.into_body();
    match media {
        Media::Json => {
            let waited = ingestion.wait_for_readers(behind_max).await;
            waited.inspect_err(|_| outcome::count_not_admitted(1))?;
            post_json(&ingestion, (body, is_packed), client, options).await
        }
        Media::Lines => {
            // What few events need is quick, and their body bounded: they wait instead.
            ingestion.lookups.check().inspect_err(|_| outcome::count_not_admitted(1))?;
            let body = if is_packed { gunzip(body, &ingestion.limits) } else { body };
            // Boxed: it is large, and would be so for requests with one event too.
            Ok(Box::pin(Run::start(ingestion, body, client, (options, behind_max)).respond()).await)
        }
    }
}

async fn post_json(
    ingestion: &Ingestion,
    (body, is_packed): (Body, bool),
    client: Option<IpAddr>,
    options: Options,
) -> Result<Response, Problem> {
    let mut reservation = ingestion.capacity.reservation(client);
    let body = body::read(body, is_packed, &mut reservation, &ingestion.limits).await;
    let body = body.inspect_err(|_| outcome::count_not_admitted(1))?;
    match split(&body, &ingestion.limits).inspect_err(|_| outcome::count_not_admitted(1))? {
        Events::One(event) => one_answer(ingestion.process(&[event.into()], options).await?),
        Events::Broken(text, fault) => {
            let received = Received { fault: Some(&fault), ..text.into() };
            one_answer(ingestion.process(&[received], options).await?)
        }
        Events::Many(events) => {
            let events: Vec<Received<'_>> = events.into_iter().map(Received::from).collect();
            let rejected_max = ingestion.limits.rejected_max;
            match ingestion.process_within(&events, options, rejected_max).await {
                Ok(processed) => {
                    let is_cut = processed.outcomes.len() < events.len();
                    Ok(many_answer(processed, is_cut.then(|| outcome::too_many_rejected(rejected_max))))
                }
                Err(error) => Err(none_admitted(error.into(), events.len())),
            }
        }
    }
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::Log(error) => error.into(),
            IngestError::Identities(error) => error.into(),
        }
    }
}

fn one_answer(processed: Processed) -> Result<Response, Problem> {
    match processed.outcomes.into_iter().next() {
        Some(Outcome::Rejected(rejection)) => Err(rejection.problem()),
        Some(Outcome::Accepted) | None => {
            Ok(Json(with_warnings(json!({"ok": true, "error": null}), &processed.warnings)).into_response())
        }
    }
}

/// `stopped` says why the events after the last outcome were not read.
fn many_answer(processed: Processed, stopped: Option<Problem>) -> Response {
    let Processed { outcomes, warnings } = processed;
    let read = outcomes.len();
    let mut answer = SinkOutcome::default();
    outcome::tally(&mut answer, 0, outcomes);
    let mut body = json!(answer);
    body["ok"] = json!(answer.rejected.is_empty() && stopped.is_none());
    if let Some(Problem { code, message, .. }) = stopped {
        body["not_read_from"] = json!(read);
        body["code"] = json!(code);
        body["message"] = json!(message);
    }
    Json(with_warnings(body, &warnings)).into_response()
}

/// An array is appended as a whole, so if one event is not admitted, none is.
fn none_admitted(problem: Problem, events: usize) -> Problem {
    let not_admitted = outcome::not_admitted(0..events, problem.code, &problem.message).collect();
    let answer = SinkOutcome { not_admitted, ..SinkOutcome::default() };
    let Value::Object(details) = json!(answer) else { return problem };
    Problem { details, ..problem }
}

fn with_warnings(mut answer: Value, warnings: &Warnings) -> Value {
    if !warnings.is_empty() {
        answer["warnings"] = json!(warnings);
    }
    answer
}

fn options(ingestion: &Ingestion, access: Access, query: &EventsQuery) -> Result<Options, Problem> {
    if access < Access::Admin && (query.unknown_users.is_some() || query.dedupe_forever) {
        let message = "the options unknown_users and dedupe_forever need an admin key; leave them out or use one";
        return Err(Problem::new(Kind::Forbidden, ErrorCode::Forbidden, message));
    }
    Ok(Options {
        unknown_users: query.unknown_users.unwrap_or(ingestion.unknown_users),
        dedupe_forever: query.dedupe_forever,
    })
}

enum Media {
    Json,
    Lines,
}

/// `text/plain` is what a browser's beacon may send without asking first; it is read as JSON.
fn media(headers: &HeaderMap) -> Result<Media, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Media::Json) };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "text/plain" => Ok(Media::Json),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Media::Lines),
        _ => {
            let message = format!(
                "`{essence}` is not read here; send Content-Type: application/json, or application/x-ndjson for lines of JSON"
            );
            Err(Problem::new(Kind::UnsupportedMedia, ErrorCode::UnsupportedMediaType, message))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserQuery {
    client_ref_id: String,
}

/// The user with this client id; `{"data": null}` if there is none, as on the configuration API.
async fn find_user(
    State(ingestion): State<Arc<Ingestion>>,
    Query(query): Query<UserQuery>,
) -> Result<Json<Value>, Problem> {
    let profile = ingestion.identities().profile(&query.client_ref_id).await?;
    Ok(Json(json!({ "data": profile })))
}

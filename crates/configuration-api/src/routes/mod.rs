//! All routes on one page; one file per resource.

mod activities;
mod clock;
mod db_actions;
mod explain;
pub(crate) mod identities;
mod memberships;
mod segments;
mod topics;
mod traits;
mod transitions;
mod users;

pub use db_actions::load_sample_data;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use ports::ErrorCode;
use tokio::sync::Notify;
use uss_http::operations::{self, Health};
use uss_http::pace::Pace;
use uss_http::serve::{Shape, finish};
use uss_http::{Access, ApiKeys};

use crate::api::Api;
use crate::live::Hub;

/// The largest body of the calls between services, which are batches.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The configuration API.
pub fn router(api: Api, keys: &ApiKeys) -> Router {
    let routes =
        Router::new().merge(user_routes()).merge(segment_routes()).merge(log_routes(&api)).merge(service_routes());
    let routes = routes.layer(from_fn_with_state(api.clone(), wake_relay));
    let routes = keys.guard(Pace::default().hold(routes), Access::Admin);
    let health = operations::health({
        let api = api.clone();
        move || check_health(api.clone())
    });
    finish(routes.with_state(api).merge(health), Shape::Configuration)
}

fn user_routes() -> Router<Api> {
    Router::new()
        .route("/api/v1/users", get(users::list).post(users::create))
        .route("/api/v1/users/{id}", get(users::get).put(users::update).delete(users::delete))
        .route("/api/v1/users/client-ref-id/{id}", get(users::by_client_id))
        .route("/api/v1/users/segment/{tag}", get(users::members))
        .route("/api/v1/users/{id}/segments", put(memberships::set_manual))
        .route("/api/v1/users/{id}/segments/{tag}/explain", get(explain::get))
        .route("/api/v1/users/{id}/identities", get(identities::list).post(identities::attach))
        .route("/api/v1/users/{id}/traits", get(traits::get).patch(traits::patch))
        .route("/api/v1/users/{id}/transitions", get(transitions::of_user))
        .route("/api/v1/identities/link", post(identities::link))
}

fn segment_routes() -> Router<Api> {
    Router::new()
        .route("/api/v1/activities", get(activities::list).post(activities::create))
        .route("/api/v1/activities/{id}", get(activities::get).put(activities::update).delete(activities::delete))
        .route("/api/v1/activities/code/{code}", get(activities::by_code))
        .route("/api/v1/activities/{id}/segments/{segment}", put(activities::link).delete(activities::unlink))
        .route("/api/v1/segments", get(segments::list).post(segments::create))
        .route("/api/v1/segments/{id}", get(segments::get).put(segments::update).delete(segments::delete))
        .route("/api/v1/segments/{id}/activities", get(activities::of_segment))
        .route(
            "/api/v1/segments/{id}/activities/{activity}",
            put(activities::link_from_segment).delete(activities::unlink_from_segment),
        )
        .route("/api/v1/segments/{id}/progress", get(segments::progress))
        .route("/api/v1/segments/{id}/transitions", get(transitions::of_segment))
        .route("/api/v1/segments/generics-and-by/{code}", get(segments::generics_and_by))
        .route("/api/v1/segments/validate", post(segments::validate))
        .route("/api/v1/segments/preview", post(segments::preview))
        .route("/api/v1/db-actions/seed/data", post(db_actions::seed_data))
        .route("/api/v1/db-actions/seed/analytics", post(db_actions::seed_analytics))
}

fn log_routes(api: &Api) -> Router<Api> {
    let hub = Arc::new(Hub::new(api.log.clone(), api.stopped.clone()));
    Router::new()
        .route("/api/v1/transitions/stream", get(transitions::live).layer(Extension(hub)))
        .route("/api/v1/clock", get(clock::get))
        .route("/api/v1/clock/accept", post(clock::accept))
        .route("/api/v1/topics", get(topics::list))
        .route("/api/v1/topics/{name}/records", get(topics::records))
}

fn service_routes() -> Router<Api> {
    Router::new()
        .route("/api/v1/identities/resolve", post(identities::resolve))
        .route("/api/v1/memberships", put(memberships::apply))
        .route("/api/v1/memberships/positions", get(memberships::positions))
        .layer(DefaultBodyLimit::max(BATCH_BYTES_MAX))
}

/// A change needs both: the store takes it, the log carries it to the engine.
async fn check_health(api: Api) -> Health {
    let (store, log) = tokio::join!(
        operations::check(ErrorCode::StoreUnavailable, api.store.ping()),
        operations::check(ErrorCode::LogUnavailable, api.log.ping()),
    );
    vec![("configStore", store), ("log", log)]
}

/// Wakes the relay after every call that may have written.
async fn wake_relay(State(api): State<Api>, request: Request, next: Next) -> Response {
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let _wakes = (!reads).then(|| WakesRelay(&api.written));
    next.run(request).await
}

/// Wakes the relay when it is dropped. So it does if the client disconnects, which ends the call,
/// after the store has the change.
struct WakesRelay<'a>(&'a Notify);

impl Drop for WakesRelay<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

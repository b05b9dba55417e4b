//! Answers browsers that ask whether a page may send events (CORS).

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowCredentials, AllowOrigin, CorsLayer};
use uss_http::AllowedOrigins;

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(3_600);
/// Where events are sent: all that `*` opens to pages. What was rejected is for admins to read.
const EVENTS: &str = "/api/v1/events";

/// An origin that is listed may send its cookies along, as beacons always do; they mean nothing here, but without this a
/// browser does not send the event.
pub(crate) fn layer(origins: &AllowedOrigins) -> CorsLayer {
    let (any, named) = (origins.is_any(), origins.named());
    let of_listed = named.clone();
    let allowed =
        move |origin: &HeaderValue, request: &Parts| named.names(origin) || (any && request.uri.path() == EVENTS);
    let with_credentials = move |origin: &HeaderValue, _: &Parts| !any || of_listed.names(origin);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_credentials(AllowCredentials::predicate(with_credentials))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING])
        .expose_headers([header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE)
}

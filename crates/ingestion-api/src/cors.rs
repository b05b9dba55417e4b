//! Answers browsers that ask whether a page may send events (CORS).

use axum::http::{Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use uss_http::AllowedOrigins;

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// An origin that is listed may send its cookies along, as beacons always do; they mean nothing here, but without this a
/// browser does not send the event.
pub(crate) fn layer(origins: &AllowedOrigins) -> CorsLayer {
    let any = origins.is_any();
    let allowed = if any { AllowOrigin::any() } else { AllowOrigin::list(origins.list().iter().cloned()) };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_credentials(!any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING])
        .expose_headers([header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE)
}

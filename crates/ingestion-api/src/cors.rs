//! Which pages of browsers may send events.

use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Which pages of browsers may send events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedOrigins(Vec<HeaderValue>);

impl std::str::FromStr for AllowedOrigins {
    type Err = String;

    /// Origins separated by commas, or `*` for all.
    fn from_str(text: &str) -> Result<Self, String> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        let origins = origins.map(|origin| {
            let is_origin = origin == "*" || (origin.contains("://") && !origin.ends_with('/'));
            let advice = "USS_ALLOWED_ORIGINS takes origins like https://shop.example, separated by commas, or *";
            HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| format!("`{origin}`: {advice}"))
        });
        Ok(Self(origins.collect::<Result<_, _>>()?))
    }
}

impl AllowedOrigins {
    /// Answers browsers that ask. An origin that is listed may send its cookies along, as beacons always do; they mean nothing
    /// here, but without this a browser does not send the event.
    pub(crate) fn layer(&self) -> CorsLayer {
        let any = self.0.iter().any(|origin| origin == "*");
        let allowed = if any { AllowOrigin::any() } else { AllowOrigin::list(self.0.clone()) };
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_credentials(!any)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::CONTENT_ENCODING])
            .expose_headers([header::RETRY_AFTER])
            .max_age(CORS_MAX_AGE)
    }
}

//! Protects a server without keys from web pages.
//!
//! Without keys everyone who reaches a port is an admin, so such a server binds to loopback. But a
//! browser on the same machine runs pages from everywhere, and they reach loopback too, in two
//! ways. A page may send some requests to any server, although it cannot read the responses
//! (cross-site request forgery). And a page may let its own name resolve to 127.0.0.1, so that the
//! server becomes part of its origin (DNS rebinding). The browser shows both: it sends the name
//! that the page used as `Host`, and the source of the request as `Origin` and `Sec-Fetch-Site`.
//!
//! With keys nothing is checked here: a browser adds no key by itself, and a proxy may call the
//! server by any name.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};

use ports::ErrorCode;

use crate::access::{Access, ApiKeys, AtMost};
use crate::origins::{AllowedHosts, AllowedOrigins};
use crate::problem::{Kind, Problem};
use crate::serve::{Shape, write_error};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Decides what web pages may do.
#[derive(Clone, Debug)]
pub struct CrossSiteGuard {
    /// `None` if the server has keys.
    hosts: Option<Arc<AllowedHosts>>,
    origins: AllowedOrigins,
}

impl CrossSiteGuard {
    /// Refuses requests to other hosts, and changes that come from other origins. A request from an
    /// origin that only `*` allows has the rights of an ingest key: it may send events.
    pub fn new(keys: &ApiKeys, hosts: AllowedHosts, origins: AllowedOrigins) -> Self {
        Self { hosts: keys.is_empty().then(|| Arc::new(hosts)), origins }
    }

    /// Returns the guard of an API that takes no events: only origins that are listed by name may
    /// use it.
    #[must_use]
    pub fn for_admins(&self) -> Self {
        Self { origins: self.origins.named(), ..self.clone() }
    }

    /// Puts the guard in front of everything in `router`.
    pub fn around(&self, router: Router, shape: Shape) -> Router {
        match self.hosts {
            None => router,
            Some(_) => router.layer(from_fn_with_state((self.clone(), shape), check)),
        }
    }

    /// Returns the access that the request has at most.
    fn admit(&self, hosts: &AllowedHosts, request: &Request) -> Result<Access, Problem> {
        let headers = request.headers();
        let in_target = request.uri().authority().map(|authority| authority.as_str());
        // Every browser sends a host. A client that sends none, as HTTP/1.0 allows, is not a
        // browser.
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        if let Some(foreign) = named.chain(in_target).find(|host| !hosts.allows(host)) {
            return Err(Problem::new(
                Kind::Misdirected,
                ErrorCode::HostNotAllowed,
                format!(
                    "without API keys this server does not accept the host '{foreign}'; call it localhost, or set \
                     USS_ALLOWED_HOSTS to the names it has, or USS_API_KEYS"
                ),
            ));
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if reads || self.is_from_here(headers) {
            return Ok(Access::Admin);
        }
        if self.origins.is_any() { Ok(Access::Ingest) } else { Err(origin_not_allowed()) }
    }

    /// Whether a request comes from a page of this server, from an origin that is listed by name,
    /// or from no page at all.
    fn is_from_here(&self, headers: &HeaderMap) -> bool {
        let mut origins = headers.get_all(header::ORIGIN).iter().peekable();
        let is_cross_site = headers.get_all(SEC_FETCH_SITE).iter().any(|site| site == "cross-site");
        if origins.peek().is_none() {
            return !is_cross_site;
        }
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        origins.all(|origin| {
            let of = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
            let is_own = matches!((of, host), (Some(of), Some(host)) if of.eq_ignore_ascii_case(host));
            self.origins.names(origin) || (is_own && !is_cross_site)
        })
    }
}

/// 403 for a page of another origin.
pub(crate) fn origin_not_allowed() -> Problem {
    Problem::new(
        Kind::Forbidden,
        ErrorCode::OriginNotAllowed,
        "without API keys pages of other origins may not do this; add the page's origin to USS_ALLOWED_ORIGINS \
         (* lets pages send events and nothing else), or set USS_API_KEYS",
    )
}

async fn check(State((guard, shape)): State<(CrossSiteGuard, Shape)>, mut request: Request, next: Next) -> Response {
    let admitted = guard.hosts.as_ref().map_or(Ok(Access::Admin), |hosts| guard.admit(hosts, &request));
    match admitted {
        Ok(most) => {
            request.extensions_mut().insert(AtMost(most));
            next.run(request).await
        }
        // Outside of the layer that writes the errors of the router.
        Err(problem) => write_error(shape, problem.into_response()),
    }
}

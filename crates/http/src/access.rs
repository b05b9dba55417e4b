//! Access by keys: `USS_API_KEYS=admin:KEY,ingest:KEY`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use ports::ErrorCode;
use subtle::ConstantTimeEq;

use crate::cross_site::origin_not_allowed;
use crate::problem::{Kind, Problem};

/// The shortest accepted key, in bytes. Shorter ones can be guessed.
pub const KEY_BYTES_MIN: usize = 16;

/// What a key allows. Handlers find the caller's access in the extensions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Send events, and nothing else.
    Ingest,
    /// Everything.
    Admin,
}

/// The most access of a request to a server without keys, which depends on its origin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AtMost(pub Access);

/// A key in the query string.
#[derive(serde::Deserialize)]
struct InQuery {
    api_key: Option<String>,
}

/// The keys of both APIs. Without keys everyone is an admin, so the server binds to loopback only.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Arc<[(Access, String)]>,
}

/// Why a list of keys is refused. The messages never show a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// An entry that is not `admin:KEY` or `ingest:KEY`.
    #[error("entry {0} of USS_API_KEYS is not of the form admin:KEY or ingest:KEY; separate entries by commas")]
    Form(usize),
    /// A key that can be guessed.
    #[error("the key in entry {0} of USS_API_KEYS is shorter than {KEY_BYTES_MIN} characters; use a longer one")]
    Short(usize),
}

impl std::str::FromStr for ApiKeys {
    type Err = KeysError;

    fn from_str(list: &str) -> Result<Self, KeysError> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let keys = entries.zip(1..).map(|(entry, number)| {
            let (access, key) = match entry.split_once(':') {
                Some(("admin", key)) => (Access::Admin, key),
                Some(("ingest", key)) => (Access::Ingest, key),
                _ => return Err(KeysError::Form(number)),
            };
            if key.len() < KEY_BYTES_MIN { Err(KeysError::Short(number)) } else { Ok((access, key.to_owned())) }
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({} keys)", self.keys.len())
    }
}

impl ApiKeys {
    /// Whether there are no keys. Then every caller is an admin.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the access of a key, or `None` for an unknown key. Compares every key in full, so
    /// that the time reveals nothing.
    fn access(&self, given: &str) -> Option<Access> {
        self.keys.iter().fold(None, |found, (access, key)| {
            if bool::from(key.as_bytes().ct_eq(given.as_bytes())) { found.max(Some(*access)) } else { found }
        })
    }

    /// Lets only requests with at least this access reach the routes that `router` has so far.
    pub fn guard<S: Clone + Send + Sync + 'static>(&self, router: Router<S>, needed: Access) -> Router<S> {
        router.route_layer(from_fn_with_state((self.clone(), needed), check))
    }

    fn admit(&self, needed: Access, request: &Request) -> Result<Access, Problem> {
        if self.is_empty() {
            let most = request.extensions().get::<AtMost>().map_or(Access::Admin, |most| most.0);
            return if most >= needed { Ok(most) } else { Err(origin_not_allowed()) };
        }
        let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = bearer.and_then(|value| value.split_once(' '));
        // The name of a scheme is case-insensitive (RFC 9110, 11.1).
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key);
        // A browser's beacon cannot set headers. URLs end up in logs, so only ingest keys are read
        // from them.
        let in_query = Query::<InQuery>::try_from_uri(request.uri()).ok().and_then(|query| query.0.api_key);
        let access = match (bearer, in_query) {
            (Some(key), _) => self.access(key.trim()),
            (None, Some(key)) => self.access(&key).filter(|access| *access == Access::Ingest),
            (None, None) => None,
        };
        match access {
            Some(access) if access >= needed => Ok(access),
            Some(_) => Err(Problem::new(
                Kind::Forbidden,
                ErrorCode::Forbidden,
                "this key may only send events; use an admin key for this call",
            )),
            None => Err(Problem::new(
                Kind::Unauthorized,
                ErrorCode::Unauthorized,
                "send one of the keys of USS_API_KEYS in the header Authorization: Bearer KEY",
            )),
        }
    }
}

async fn check(State((keys, needed)): State<(ApiKeys, Access)>, mut request: Request, next: Next) -> Response {
    match keys.admit(needed, &request) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

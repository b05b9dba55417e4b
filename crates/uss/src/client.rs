//! A client of a running service, for the commands that query it.
//!
//! These commands use the HTTP API, since only one process can have the embedded log open.

use std::time::Duration;

use ports::ErrorCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const RESPONSE_TIME_MAX: Duration = Duration::from_secs(60);

/// The address and key of the ingestion API.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IngestionAddress {
    /// The ingestion API of the running service
    #[arg(long, global = true, env = "USS_INGESTION_URL", default_value = "http://127.0.0.1:4000")]
    url: String,
    /// An admin key, if the API needs keys
    #[arg(long, global = true, env = "USS_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

/// The address and key of the configuration API.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConfigurationAddress {
    /// The configuration API of the running service
    #[arg(long, global = true, env = "USS_CONFIGURATION_URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// An admin key, if the API needs keys
    #[arg(long, global = true, env = "USS_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

impl IngestionAddress {
    pub(crate) fn service(self) -> Service {
        Service::new(self.url, self.key, "USS_INGESTION_URL")
    }
}

impl ConfigurationAddress {
    pub(crate) fn service(self) -> Service {
        Service::new(self.url, self.key, "USS_CONFIGURATION_URL")
    }
}

/// One API of a running service.
#[derive(Debug)]
pub(crate) struct Service {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    /// The environment variable that sets the address.
    variable: &'static str,
}

/// The body of a response that refuses a request.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
    /// The outcome of the event, if the request was a replay.
    pub(crate) outcome: Option<String>,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(
        "{url} cannot be reached: {reason}. Is `uss serve` running? If it runs elsewhere, give its address with --url or {variable}"
    )]
    Unreachable { url: String, reason: String, variable: &'static str },
    /// Another server, or the other API of USS, listens at the address.
    #[error(
        "{url} responds with {status}, but not like this API of USS: give the right address with --url or {variable}"
    )]
    UnexpectedResponse { url: String, status: StatusCode, variable: &'static str },
    /// The key is missing, wrong, or no admin key.
    #[error("{0}: give an admin key with --key or USS_API_KEY")]
    NoAccess(String),
    #[error("{} ({})", .0.message, .0.code)]
    Refused(Refusal),
}

impl Service {
    fn new(url: String, key: Option<String>, variable: &'static str) -> Self {
        let client = reqwest::Client::builder().timeout(RESPONSE_TIME_MAX).build();
        let client = client.expect("a client without certificates or proxies of its own can be made");
        Self { client, url: url.trim_end_matches('/').to_owned(), key, variable }
    }

    /// Returns the body of a GET request.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        self.send(Method::GET, path, String::new()).await
    }

    /// Posts JSON, and returns the body of the response.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, ServiceError> {
        self.send(Method::POST, path, body).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, ServiceError> {
        let is_post = method == Method::POST;
        let mut request = self.client.request(method, format!("{}{path}", self.url)).body(body);
        if is_post {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let unexpected = || ServiceError::UnexpectedResponse { url: self.url.clone(), status, variable: self.variable };
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|_| unexpected());
        }
        let refusal: Refusal = serde_json::from_str(&text).map_err(|_| unexpected())?;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ServiceError::NoAccess(refusal.message)),
            // Most likely the address is that of the other API, which does not have this path.
            _ if refusal.code == ErrorCode::UnknownPath.as_str() => Err(unexpected()),
            _ => Err(ServiceError::Refused(refusal)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ServiceError {
        // The innermost error says what happened, the outer ones only that something did.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let (url, reason) = (self.url.clone(), reason.to_string());
        ServiceError::Unreachable { url, reason, variable: self.variable }
    }
}

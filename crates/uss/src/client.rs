//! A client of a running service, for the commands that look into it.
//!
//! They go through its HTTP API, since only one process can have the embedded log open.

use std::time::Duration;

use ports::ErrorCode;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where the ingestion API is.
#[derive(Clone, Debug, clap::Args)]
pub struct IngestionAddress {
    /// The ingestion API of the running service
    #[arg(long, global = true, env = "USS_INGESTION_URL", default_value = "http://127.0.0.1:4000")]
    url: String,
    /// An admin key, if the API asks for keys
    #[arg(long, global = true, env = "USS_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

/// Where the configuration API is.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigurationAddress {
    /// The configuration API of the running service
    #[arg(long, global = true, env = "USS_CONFIGURATION_URL", default_value = "http://127.0.0.1:3000")]
    url: String,
    /// An admin key, if the API asks for keys
    #[arg(long, global = true, env = "USS_API_KEY", hide_env_values = true)]
    key: Option<String>,
}

impl IngestionAddress {
    /// A client of it.
    pub fn service(self) -> Service {
        Service::new(self.url, self.key, "USS_INGESTION_URL")
    }
}

impl ConfigurationAddress {
    /// A client of it.
    pub fn service(self) -> Service {
        Service::new(self.url, self.key, "USS_CONFIGURATION_URL")
    }
}

/// An API of a running service.
#[derive(Debug)]
pub struct Service {
    client: reqwest::Client,
    url: String,
    key: Option<String>,
    /// What the address can be set with, besides `--url`.
    variable: &'static str,
}

/// What the API says when it refuses.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    /// Stable, for programs.
    pub code: String,
    /// Says what to do.
    pub message: String,
    /// Of a replay: what became of the event.
    pub outcome: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nobody is there.
    #[error(
        "{url} cannot be reached: {reason}. Is `uss serve` running? If it is elsewhere, say where with --url or {variable}"
    )]
    Unreachable {
        /// What was tried.
        url: String,
        /// Why.
        reason: String,
        /// What the address can be set with.
        variable: &'static str,
    },
    /// Somebody else is there.
    #[error("{url} answers {status}, but not like this API of USS: say with --url or {variable} where that is")]
    Stranger {
        /// What was tried.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// What the address can be set with.
        variable: &'static str,
    },
    /// The key does not do.
    #[error("{0}: give an admin key with --key or USS_API_KEY")]
    NoAccess(String),
    /// The API refuses.
    #[error("{} ({})", .0.message, .0.code)]
    Refused(Refusal),
}

impl Service {
    fn new(url: String, key: Option<String>, variable: &'static str) -> Self {
        let client = reqwest::Client::builder().timeout(ANSWER_MAX).build();
        let client = client.expect("a client without certificates or proxies of its own can be made");
        Self { client, url: url.trim_end_matches('/').to_owned(), key, variable }
    }

    /// Asks for what is at a path.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ServiceError> {
        self.ask(Method::GET, path, String::new()).await
    }

    /// Sends JSON to a path.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, ServiceError> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: String) -> Result<T, ServiceError> {
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
        let stranger = || ServiceError::Stranger { url: self.url.clone(), status, variable: self.variable };
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|_| stranger());
        }
        let refusal: Refusal = serde_json::from_str(&text).map_err(|_| stranger())?;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(ServiceError::NoAccess(refusal.message)),
            // The other API, most likely: this one has the path.
            _ if refusal.code == ErrorCode::UnknownPath.as_str() => Err(stranger()),
            _ => Err(ServiceError::Refused(refusal)),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> ServiceError {
        // The innermost says what happened, the others that it happened.
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let (url, reason) = (self.url.clone(), reason.to_string());
        ServiceError::Unreachable { url, reason, variable: self.variable }
    }
}

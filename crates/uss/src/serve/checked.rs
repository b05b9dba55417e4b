//! Settings that are more than a number or a path, read before anything is created: a start that is refused leaves nothing
//! behind.

use std::path::Path;
use std::str::FromStr;

use configuration_api::TopicNames;
use ingestion_api::{AllowedOrigins, FuturePolicy, UnknownUsers};
use ports::config_store::IdentityRules;
use uss_http::ApiKeys;

use super::StartError;
use crate::settings::Settings;

const SECOND_MICROS: i64 = 1_000_000;

/// Variables of deployments whose data is on servers.
const SERVERS: [&str; 3] = ["REDPANDA_BROKERS", "DATABEND_CONNECTION_STRING", "POSTGRES_DB_CONNECTION_STRING"];

/// What the settings say.
pub struct Checked {
    pub unknown_users: UnknownUsers,
    pub future: FuturePolicy,
    pub keys: ApiKeys,
    pub origins: AllowedOrigins,
    pub topics: TopicNames,
    pub identity_rules: IdentityRules,
}

impl Checked {
    pub fn of(settings: &Settings) -> Result<Self, StartError> {
        warn_of_servers(&settings.data_dir);
        embedded_only("USS_LOG", &settings.log, "embedded:")?;
        embedded_only("USS_WAREHOUSE", &settings.warehouse, "duckdb:")?;
        embedded_only("USS_CONFIG_STORE", &settings.config_store, "sqlite:")?;
        let exclusive = settings.exclusive_identities.split(',').map(str::trim).filter(|kind| !kind.is_empty());
        Ok(Self {
            unknown_users: match settings.unknown_users.as_str() {
                "reject" => UnknownUsers::Reject,
                "create" => UnknownUsers::Create,
                other => return Err(StartError::new(format!("USS_UNKNOWN_USERS={other}: use reject or create"))),
            },
            future: FuturePolicy {
                events: settings
                    .future_events
                    .parse()
                    .map_err(|error| StartError::new(format!("USS_FUTURE_EVENTS: {error}")))?,
                tolerance_micros: i64::from(settings.future_tolerance_seconds) * SECOND_MICROS,
            },
            keys: ApiKeys::from_str(&settings.api_keys).map_err(|error| StartError::new(error.to_string()))?,
            origins: AllowedOrigins::from_str(&settings.allowed_origins).map_err(StartError::new)?,
            topics: topic_names(settings)?,
            identity_rules: IdentityRules { exclusive: exclusive.map(str::to_owned).collect() },
        })
    }
}

/// Who names servers expects the data to be there.
fn warn_of_servers(folder: &Path) {
    for variable in SERVERS.into_iter().filter(|variable| std::env::var_os(variable).is_some()) {
        let folder = folder.display();
        tracing::warn!(
            "{variable} is set but not used: this build has only embedded adapters, all data is in {folder}"
        );
    }
}

fn embedded_only(variable: &str, address: &str, embedded: &str) -> Result<(), StartError> {
    if address.starts_with(embedded) {
        return Ok(());
    }
    Err(StartError::new(format!("{variable}={address}: this build has only the embedded adapter; use {embedded}")))
}

/// The topics' names outside. Who asks for one by its name must find that one.
fn topic_names(settings: &Settings) -> Result<TopicNames, StartError> {
    let names = TopicNames {
        events: settings.event_ingested_topic.clone(),
        errors: settings.error_topic.clone(),
        notifications: settings.notification_topic.clone(),
        config: settings.config_topic.clone(),
    };
    let all = names.all().map(|(_, name)| name);
    match all.iter().find(|name| name.is_empty() || all.iter().filter(|other| other == name).count() > 1) {
        None => Ok(names),
        Some(name) => Err(StartError::new(format!(
            "no topic can be called '{name}' here: give each a name, and one of its own, with EVENT_INGESTED_TOPIC, ERROR_TOPIC, \
             NOTIFICATION_TOPIC and USS_CONFIG_TOPIC"
        ))),
    }
}

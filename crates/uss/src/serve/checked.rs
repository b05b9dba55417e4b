//! Parses the settings that are more than a number or a path. This happens before anything is
//! created, so that a refused start leaves nothing behind.

use std::path::Path;
use std::str::FromStr;

use configuration_api::TopicNames;
use ingestion_api::{FuturePolicy, UnknownUsers};
use ports::config_store::IdentityRules;
use ports::identities::CaselessTypes;
use uss_http::{AllowedHosts, AllowedOrigins, ApiKeys};

use super::StartError;
use super::open::AccessRules;
use crate::settings::Settings;

const SECOND_MICROS: i64 = 1_000_000;

/// Environment variables of deployments that keep their data on servers.
const SERVERS: [&str; 3] = ["REDPANDA_BROKERS", "DATABEND_CONNECTION_STRING", "POSTGRES_DB_CONNECTION_STRING"];

/// The parsed settings.
pub(crate) struct Checked {
    pub(crate) unknown_users: UnknownUsers,
    pub(crate) future: FuturePolicy,
    pub(crate) access: AccessRules,
    pub(crate) topics: TopicNames,
    pub(crate) identity_rules: IdentityRules,
}

impl Checked {
    pub(crate) fn of(settings: &Settings) -> Result<Self, StartError> {
        warn_of_servers(&settings.data_dir);
        embedded_only("USS_LOG", &settings.log, "embedded:")?;
        embedded_only("USS_WAREHOUSE", &settings.warehouse, "duckdb:")?;
        embedded_only("USS_CONFIG_STORE", &settings.config_store, "sqlite:")?;
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
            access: AccessRules {
                keys: ApiKeys::from_str(&settings.api_keys).map_err(|error| StartError::new(error.to_string()))?,
                origins: AllowedOrigins::from_str(&settings.allowed_origins).map_err(StartError::new)?,
                hosts: AllowedHosts::new(&settings.bind, &settings.allowed_hosts).map_err(StartError::new)?,
            },
            topics: topic_names(settings)?,
            identity_rules: IdentityRules {
                exclusive: types(&settings.exclusive_identities).collect(),
                caseless: CaselessTypes::new(types(&settings.caseless_identities)),
            },
        })
    }
}

/// Splits a list of identity types at its commas.
fn types(text: &str) -> impl Iterator<Item = String> {
    text.split(',').map(str::trim).filter(|id_type| !id_type.is_empty()).map(str::to_owned)
}

/// Warns if the environment names servers, since the operator expects the data to be there.
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

/// Returns the public names of the topics. Each must be unique, so that it names one topic.
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
            "no topic can be called '{name}' here: give each topic a unique name with EVENT_INGESTED_TOPIC, ERROR_TOPIC, \
             NOTIFICATION_TOPIC and USS_CONFIG_TOPIC"
        ))),
    }
}

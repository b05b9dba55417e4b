//! Settings: `defaults.toml`, then a file, then the environment, then flags. Data only; [`crate::serve`] makes objects of it.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// The one visible file of defaults.
pub const DEFAULTS: &str = include_str!("../defaults.toml");

/// Environment variables and the settings they are, where the name is not `USS_` and the setting's.
const ENVIRONMENT: [(&str, &str); 8] = [
    ("INGESTION_API_PORT", "ingestion_api_port"),
    ("INGESTION_METRICS_PORT", "ingestion_metrics_port"),
    ("SEGMENT_USERS_METRICS_PORT", "segment_users_metrics_port"),
    ("CONFIGURATION_API_PORT", "configuration_api_port"),
    ("LOG_LEVEL", "log_level"),
    ("EVENT_INGESTED_TOPIC", "event_ingested_topic"),
    ("ERROR_TOPIC", "error_topic"),
    ("NOTIFICATION_TOPIC", "notification_topic"),
];

/// Every setting; see `defaults.toml` for what each means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "defaults.toml documents each")]
pub struct Settings {
    pub data_dir: PathBuf,
    pub bind: String,
    pub ingestion_api_port: u16,
    pub ingestion_metrics_port: u16,
    pub segment_users_metrics_port: u16,
    pub configuration_api_port: u16,
    pub log: String,
    pub warehouse: String,
    pub config_store: String,
    pub partitions: u32,
    pub api_keys: String,
    pub allowed_origins: String,
    pub unknown_users: String,
    pub exclusive_identities: String,
    pub event_id_hours: u32,
    pub checkpoint_seconds: u32,
    pub notify_all_segments: bool,
    pub log_level: String,
    pub log_format: String,
    pub event_ingested_topic: String,
    pub error_topic: String,
    pub notification_topic: String,
    pub config_topic: String,
}

impl Settings {
    /// Reads the settings. `flags` go over everything else.
    ///
    /// # Errors
    /// A setting that cannot be read, with where it comes from.
    pub fn read(file: Option<&Path>, flags: &impl Serialize) -> Result<Self, Box<figment::Error>> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        figment.merge(environment()).merge(Serialized::defaults(flags)).extract().map_err(Box::new)
    }
}

/// The variables that are settings; any other `USS_` variable is somebody else's and is left alone.
fn environment() -> Env {
    let known: serde_json::Value = serde_json::to_value(
        Figment::from(Toml::string(DEFAULTS)).extract::<Settings>().expect("the defaults are complete, a test says so"),
    )
    .expect("settings are plain data");
    Env::raw().filter_map(move |name| {
        if let Some((_, setting)) = ENVIRONMENT.iter().find(|(variable, _)| name == *variable) {
            return Some((*setting).into());
        }
        let setting = name.as_str().strip_prefix("USS_")?.to_ascii_lowercase();
        known.get(&setting).is_some().then(|| setting.into())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        partitions: Option<u32>,
    }

    #[test]
    fn defaults_are_complete_and_flags_go_over_them() {
        let settings = Settings::read(None, &Flags { partitions: None }).unwrap();
        assert_eq!((settings.partitions, settings.configuration_api_port), (16, 3000));
        let settings = Settings::read(None, &Flags { partitions: Some(4) }).unwrap();
        assert_eq!(settings.partitions, 4);
    }
}

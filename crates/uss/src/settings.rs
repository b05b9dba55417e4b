//! Settings: `defaults.toml`, then a file, then the environment, then flags. Data only; [`crate::serve`] makes objects of it.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use segment_engine::time::Interval;
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
    pub log_retention: LogRetention,
    pub notify_all_segments: bool,
    pub log_level: String,
    pub log_format: String,
    pub event_ingested_topic: String,
    pub error_topic: String,
    pub notification_topic: String,
    pub config_topic: String,
}

/// How long records stay in the log, in microseconds; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Duration")]
pub struct LogRetention(pub Option<i64>);

/// A duration as people write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Duration {
    Seconds(u32),
    Text(String),
}

impl TryFrom<Duration> for LogRetention {
    type Error = String;

    /// An interval as in where clauses, or seconds. A month has no length of its own; nothing is no length to keep anything for.
    fn try_from(duration: Duration) -> Result<Self, String> {
        let text = match duration {
            Duration::Text(text) if text == "forever" => return Ok(Self(None)),
            Duration::Text(text) => text,
            Duration::Seconds(seconds) => seconds.to_string(),
        };
        let interval = Interval::parse(&text).filter(|interval| interval.months == 0);
        let micros = interval.and_then(|interval| i64::try_from(interval.fixed_micros()).ok());
        match micros {
            Some(0) => Ok(Self(None)),
            Some(micros) if micros > 0 => Ok(Self(Some(micros))),
            _ => Err(format!(
                "'{text}' is no retention: say for instance 7 days, 36 hours or 3600 (seconds); forever or 0 never trims"
            )),
        }
    }
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
        assert_eq!(settings.log_retention, LogRetention(Some(7 * 86_400_000_000)));
    }

    #[test]
    fn a_retention_is_an_interval_of_fixed_length() {
        let read = |text: &str| LogRetention::try_from(Duration::Text(text.to_owned())).map(|LogRetention(it)| it);
        for (text, seconds) in [("36 hours", 129_600), ("1 day 12 hours", 129_600), ("90", 90), ("1 week", 604_800)] {
            assert_eq!(read(text), Ok(Some(seconds * 1_000_000)), "{text}");
        }
        assert_eq!((read("forever"), read("0"), read("0 days")), (Ok(None), Ok(None), Ok(None)));
        for refused in ["", "soon", "-1 day", "1 month", "1 year", "7 daze", "999999999999 days"] {
            assert!(read(refused).is_err_and(|message| message.contains("7 days")), "{refused}");
        }
        let number: LogRetention = serde_json::from_str("3600").unwrap();
        assert_eq!(number, LogRetention(Some(3_600_000_000)));
    }
}

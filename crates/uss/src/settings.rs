//! Settings: `defaults.toml`, then a file, then the environment, then flags. Data only; [`crate::serve`] makes objects of it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Serialized, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
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

/// What each number may be. A port is 0 where a free one shall be taken.
const BOUNDS: [(&str, RangeInclusive<u32>); 15] = [
    ("ingestion_api_port", 0..=65_535),
    ("ingestion_metrics_port", 0..=65_535),
    ("segment_users_metrics_port", 0..=65_535),
    ("configuration_api_port", 0..=65_535),
    // Each is a task and a machine of the engine.
    ("partitions", 1..=1_024),
    ("connections_max", 1..=1_000_000),
    ("connections_per_address_max", 1..=1_000_000),
    // A day.
    ("idle_connection_seconds", 1..=86_400),
    // A year: every id is remembered for so long.
    ("event_id_hours", 1..=8_760),
    // A day: more is no clock that is a little wrong.
    ("future_tolerance_seconds", 0..=86_400),
    // 0: the config store is asked about each. A TiB: 40 billion identities.
    ("identity_index_mb", 0..=1_048_576),
    // Each is evaluated for every user who might be in it.
    ("segments_max", 1..=100_000),
    // An hour: more is no step that a well-kept clock takes. A day: so long may time be wrong after a step that was right.
    ("clock_tolerance_seconds", 1..=3_600),
    ("clock_settle_seconds", 0..=86_400),
    // A day: that much of the log may have to be read again after a crash.
    ("checkpoint_seconds", 1..=86_400),
];

/// A setting that cannot be read or is out of its bounds, for the operator.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// Every setting; see `defaults.toml` for what each means.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "defaults.toml documents each")]
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
    pub allowed_hosts: String,
    pub connections_max: u32,
    pub connections_per_address_max: u32,
    pub idle_connection_seconds: u32,
    pub unknown_users: String,
    pub future_events: String,
    pub future_tolerance_seconds: u32,
    pub exclusive_identities: String,
    pub caseless_identities: String,
    pub identity_index_mb: u32,
    pub segments_max: u32,
    pub clock_tolerance_seconds: u32,
    pub clock_settle_seconds: u32,
    pub event_id_hours: u32,
    pub checkpoint_seconds: u32,
    pub log_retention: LogRetention,
    pub erase_interval: EraseInterval,
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

/// How long at least between two times that deleted users are wiped out of files, in microseconds; `None`: never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Duration")]
pub struct EraseInterval(pub Option<i64>);

/// A duration as people write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Duration {
    Whole(i64),
    Number(f64),
    Flag(bool),
    Text(String),
}

impl Duration {
    /// An interval as in where clauses, or seconds, in microseconds. A month has no length of its own; no length at all is
    /// none, as `forever` is. The error is what was written.
    fn micros(self) -> Result<Option<i64>, String> {
        let text = match self {
            Duration::Text(text) if text == "forever" => return Ok(None),
            Duration::Text(text) => text,
            Duration::Whole(seconds) => seconds.to_string(),
            Duration::Number(number) => number.to_string(),
            Duration::Flag(flag) => flag.to_string(),
        };
        let interval = Interval::parse(&text).filter(|interval| interval.months == 0);
        let micros = interval.and_then(|interval| i64::try_from(interval.fixed_micros()).ok());
        match micros {
            Some(0) => Ok(None),
            Some(micros) if micros > 0 => Ok(Some(micros)),
            _ => Err(text),
        }
    }
}

impl TryFrom<Duration> for LogRetention {
    type Error = String;

    fn try_from(duration: Duration) -> Result<Self, String> {
        duration.micros().map(Self).map_err(|text| {
            format!("'{text}' is no retention: say for instance 7 days, 36 hours or 3600 (seconds); forever or 0 never trims")
        })
    }
}

impl TryFrom<Duration> for EraseInterval {
    type Error = String;

    fn try_from(duration: Duration) -> Result<Self, String> {
        duration.micros().map(Self).map_err(|text| {
            format!(
                "'{text}' is no interval: say for instance 1 day, 12 hours or 3600 (seconds); forever or 0 never wipes"
            )
        })
    }
}

impl Settings {
    /// Reads the settings. `flags` go over everything else.
    ///
    /// # Errors
    /// A setting that cannot be read, with where it comes from; a number out of its bounds, with these.
    pub fn read(file: Option<&Path>, flags: &impl Serialize) -> Result<Self, SettingsError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(file) = file {
            figment = figment.merge(Toml::file_exact(file));
        }
        let figment = figment.merge(Environment::of_process()).merge(Serialized::defaults(flags));
        for (setting, bounds) in BOUNDS {
            check(&figment, setting, &bounds)?;
        }
        let settings: Self = figment.extract().map_err(|error| SettingsError(error.to_string()))?;
        if settings.data_dir.as_os_str().is_empty() {
            let message = "data_dir (USS_DATA_DIR) is empty; name the folder for the data, or leave it out for ./data";
            return Err(SettingsError(message.to_owned()));
        }
        Ok(settings)
    }
}

/// Refuses what is no number, or none that the setting may be.
fn check(figment: &Figment, setting: &str, bounds: &RangeInclusive<u32>) -> Result<(), SettingsError> {
    let value = figment.find_value(setting).map_err(|error| SettingsError(error.to_string()))?;
    let number = value.to_i128().or_else(|| i128::try_from(value.to_u128()?).ok());
    if number.is_some_and(|number| (i128::from(*bounds.start())..=i128::from(*bounds.end())).contains(&number)) {
        return Ok(());
    }
    let given = serde_json::to_string(&value).unwrap_or_default();
    let (least, most) = (bounds.start(), bounds.end());
    let variable = variable(setting);
    Err(SettingsError(format!("{setting} ({variable}) is {given}; it must be a whole number from {least} to {most}")))
}

/// The environment variable of a setting.
fn variable(setting: &str) -> String {
    let named = ENVIRONMENT.iter().find(|(_, of)| *of == setting).map(|(variable, _)| (*variable).to_owned());
    named.unwrap_or_else(|| format!("USS_{}", setting.to_ascii_uppercase()))
}

/// The variables that are settings; any other `USS_` variable is somebody else's and is left alone.
struct Environment(Dict);

impl Environment {
    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        let defaults = Figment::from(Toml::string(DEFAULTS)).extract::<Settings>();
        let defaults = serde_json::to_value(defaults.expect("the defaults are complete, a test says so"));
        let defaults = defaults.expect("settings are plain data");
        let setting = |(name, value): (String, String)| {
            let named = ENVIRONMENT.iter().find(|(variable, _)| *variable == name.trim());
            let setting = match named {
                Some((_, setting)) => (*setting).to_owned(),
                None => name.trim().strip_prefix("USS_")?.to_ascii_lowercase(),
            };
            let is_text = defaults.get(&setting)?.is_string();
            Some((setting, read(&value, is_text)))
        };
        Self(variables.filter_map(setting).collect())
    }

    fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self::of(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }
}

/// The value of a variable. What is to be a text is one also if it looks like a number: a topic may be called 2024.
fn read(value: &str, is_text: bool) -> Value {
    match value.parse().expect("whatever is no other value is a text") {
        text @ Value::String(..) => text,
        _ if is_text => Value::from(value.trim()),
        other => other,
    }
}

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        let names = |_: &Profile, settings: &[&str]| settings.iter().map(|setting| variable(setting)).collect();
        Metadata::named("the environment").interpolater(names)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Flags {
        #[serde(skip_serializing_if = "Option::is_none")]
        partitions: Option<u32>,
    }

    #[test]
    fn defaults_are_complete_and_flags_go_over_them() {
        let settings = Settings::read(None, &Flags { partitions: None }).unwrap();
        assert_eq!(settings.partitions, 16);
        let Settings { ingestion_api_port, ingestion_metrics_port, segment_users_metrics_port, .. } = settings;
        assert_eq!((ingestion_api_port, ingestion_metrics_port, segment_users_metrics_port), (4000, 4001, 4002));
        assert_eq!(settings.configuration_api_port, 3000);
        let settings = Settings::read(None, &Flags { partitions: Some(4) }).unwrap();
        assert_eq!(settings.partitions, 4);
        assert_eq!(settings.log_retention, LogRetention(Some(7 * 86_400_000_000)));
        assert_eq!(settings.erase_interval, EraseInterval(Some(86_400_000_000)));
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
        let erasing = |text: &str| EraseInterval::try_from(Duration::Text(text.to_owned())).map(|EraseInterval(it)| it);
        assert_eq!((erasing("12 hours"), erasing("forever")), (Ok(Some(43_200_000_000)), Ok(None)));
        assert!(erasing("soon").is_err_and(|message| message.contains("'soon'") && message.contains("1 day")));
        let number: LogRetention = serde_json::from_str("3600").unwrap();
        assert_eq!(number, LogRetention(Some(3_600_000_000)));
    }

    fn of_variables(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let settings = Figment::from(Toml::string(DEFAULTS)).merge(Environment::of(variables)).extract();
        settings.map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_names_settings_by_their_own_and_by_older_names() {
        let settings = of_variables(&[
            ("INGESTION_API_PORT", "5000"),
            ("INGESTION_METRICS_PORT", "5001"),
            ("SEGMENT_USERS_METRICS_PORT", " 5002 "),
            ("CONFIGURATION_API_PORT", "5003"),
            ("LOG_LEVEL", "debug"),
            ("EVENT_INGESTED_TOPIC", "events"),
            ("ERROR_TOPIC", "\"errors\""),
            ("NOTIFICATION_TOPIC", "2024"),
            ("USS_DATA_DIR", "7"),
            ("USS_CONFIG_TOPIC", "true"),
            ("USS_NOTIFY_ALL_SEGMENTS", "true"),
            ("USS_LOG_RETENTION", "3600"),
            ("USS_SOMEBODY_ELSES", "1"),
            ("DATABEND_POOL_SIZE ", " 20"),
        ]);
        let settings = settings.unwrap();
        let ports = (settings.ingestion_api_port, settings.ingestion_metrics_port);
        assert_eq!(ports, (5000, 5001));
        assert_eq!((settings.segment_users_metrics_port, settings.configuration_api_port), (5002, 5003));
        let topics = (&*settings.event_ingested_topic, &*settings.error_topic, &*settings.notification_topic);
        assert_eq!(topics, ("events", "errors", "2024"));
        assert_eq!((&*settings.log_level, &*settings.config_topic), ("debug", "true"));
        assert_eq!((settings.data_dir, settings.notify_all_segments), (PathBuf::from("7"), true));
        assert_eq!(settings.log_retention, LogRetention(Some(3_600_000_000)));
    }

    #[test]
    fn what_a_variable_cannot_be_is_told_with_its_name() {
        let message = of_variables(&[("USS_NOTIFY_ALL_SEGMENTS", "perhaps")]).unwrap_err();
        assert!(message.contains("USS_NOTIFY_ALL_SEGMENTS") && message.contains("perhaps"), "{message}");
        for value in ["soon", "-1", "1.5.2", "true", "-0.5", "1 month"] {
            let message = of_variables(&[("USS_LOG_RETENTION", value)]).unwrap_err();
            let parts = ["USS_LOG_RETENTION", "7 days", &format!("'{value}'")];
            assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        }
    }

    #[test]
    fn an_empty_data_folder_is_not_the_current_one() {
        let flags: serde_json::Map<String, serde_json::Value> =
            [("data_dir".to_owned(), json!(""))].into_iter().collect();
        let message = Settings::read(None, &flags).unwrap_err().to_string();
        assert!(message.contains("USS_DATA_DIR") && message.contains("empty"), "{message}");
    }

    #[test]
    fn every_number_has_bounds_and_the_defaults_keep_them() {
        let defaults = Figment::from(Toml::string(DEFAULTS));
        let all: BTreeMap<String, Value> = defaults.extract().unwrap();
        for setting in all.iter().filter(|(_, value)| matches!(value, Value::Num(..))).map(|(name, _)| name) {
            let (_, bounds) =
                BOUNDS.iter().find(|(bounded, _)| bounded == setting).unwrap_or_else(|| panic!("{setting}"));
            check(&defaults, setting, bounds).unwrap();
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_its_name_its_value_and_the_bounds() {
        let cases = [
            ("partitions", json!(0), "partitions (USS_PARTITIONS) is 0; it must be a whole number from 1 to 1024"),
            ("partitions", json!(1_025), "is 1025;"),
            ("partitions", json!(-1), "is -1;"),
            ("partitions", json!("many"), "is \"many\";"),
            ("partitions", json!(1.5), "is 1.5;"),
            ("event_id_hours", json!(0), "from 1 to 8760"),
            ("event_id_hours", json!(u32::MAX), "event_id_hours (USS_EVENT_ID_HOURS) is 4294967295;"),
            ("event_id_hours", json!(u64::MAX), "is 18446744073709551615;"),
            ("checkpoint_seconds", json!(0), "from 1 to 86400"),
            ("checkpoint_seconds", json!(86_401), "is 86401;"),
            (
                "ingestion_api_port",
                json!(65_536),
                "(INGESTION_API_PORT) is 65536; it must be a whole number from 0 to 65535",
            ),
        ];
        for (setting, value, expected) in cases {
            let flags: serde_json::Map<String, serde_json::Value> = [(setting.to_owned(), value)].into_iter().collect();
            let message = Settings::read(None, &flags).unwrap_err().to_string();
            assert!(message.contains(setting) && message.contains(expected), "{message}");
        }
    }
}

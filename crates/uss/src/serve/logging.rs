//! The log messages of the process.

use tracing_subscriber::EnvFilter;

use super::StartError;
use crate::settings::Settings;

/// Installs the logger.
pub(crate) fn install(settings: &Settings) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .map_err(|error| StartError::new(format!("LOG_LEVEL={}: {error}", settings.log_level)))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format.as_str() {
        "text" => log.init(),
        "json" => log.json().init(),
        other => return Err(StartError::new(format!("USS_LOG_FORMAT={other}: use text or json"))),
    }
    Ok(())
}

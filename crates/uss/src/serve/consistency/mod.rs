//! What the stores of a data folder must agree on, checked before anything is served.
//!
//! They are written one after the other, so each can be a moment behind the one that it follows. One that is behind what it
//! leads was lost, damaged, or replaced by an older copy: to go on would give ids and offsets away again, and drop what the
//! other remembers. That is refused, unless whoever starts the system says with `--accept-loss` that what is lost is given up.

mod log;
mod restore;
mod store;

use adapters::embedded::{Finding, LOSS_ACCEPTED};

use super::StartError;
use super::open::Opened;

/// Why the stores could not be compared, or not be made to agree.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Something that one store has lost, as another knows.
struct Loss {
    /// Which store lost what, and how that is known.
    lost: String,
    /// What going on without it means.
    given_up: String,
    /// The way back that loses nothing.
    way_back: &'static str,
}

/// What going on without a part of the log means.
pub const LOG_GIVEN_UP: &str = "what only the log had is gone: events that were not archived yet, rejected events, notifications. Users, \
     traits, lists and segments are told to it again as they stand in config.sqlite, memberships that hold no longer are taken back \
     with the cause `repair`, and offsets go on after the highest that is known";
/// How not to lose a part of the log.
pub const LOG_WAY_BACK: &str = "Put log/ of the same time as config.sqlite and warehouse.duckdb in its place";

/// Compares the stores. With `accept_loss`, what was lost is logged and the stores are made to agree.
pub async fn check(opened: &Opened, accept_loss: bool) -> Result<(), StartError> {
    opened.findings.iter().for_each(tell);
    let failed = |error: Failure| StartError::new(format!("the stores cannot be compared: {error}"));
    let (log, store) = (opened.log.as_ref(), opened.store.as_ref());
    let store_lost = store::is_behind(log, store).await.map_err(failed)?;
    let log_lost = log::is_behind(opened).await.map_err(failed)?;
    let warehouse_lost = log::has_left(opened).await.map_err(failed)?;
    let losses: Vec<&Loss> = [&store_lost, &log_lost, &warehouse_lost].into_iter().flatten().collect();
    if !losses.is_empty() && !accept_loss {
        return Err(refusal(&losses));
    }
    for Loss { lost, given_up, .. } in losses {
        tracing::warn!(code = "LOSS_ACCEPTED", "{lost}. {given_up}");
    }
    let failed = |error: Failure| StartError::new(format!("the stores cannot be made to agree: {error}"));
    if store_lost.is_some() {
        store::give_up(log, store).await.map_err(failed)?;
    }
    if log_lost.is_some() || opened.findings.iter().any(|finding| finding.code == LOSS_ACCEPTED) {
        restore::restore(opened).await.map_err(failed)?;
    }
    Ok(())
}

fn tell(Finding { code, message }: &Finding) {
    tracing::warn!(code, "{message}");
    metrics::counter!("uss_start_findings_total", "code" => *code).increment(1);
}

fn refusal(losses: &[&Loss]) -> StartError {
    let mut message = "the stores of the data folder do not belong together, so nothing was started.".to_owned();
    for Loss { lost, given_up, way_back } in losses {
        message.push_str(&format!("\n* {lost}. {way_back}. Or give it up with `uss serve --accept-loss`: {given_up}"));
    }
    StartError::new(message)
}

//! Checks that the stores of a data folder agree before anything is served.
//!
//! The stores are written one after the other, so each may be a moment behind the one that it
//! follows. A store that is behind one that follows it was lost, damaged or replaced by an older
//! copy. Continuing would assign ids and offsets a second time, and drop data that the other store
//! has. So the start is refused, unless the operator accepts the loss with `--accept-loss`.

mod log;
mod restore;
mod store;

use adapters::embedded::Finding;

use super::StartError;
use super::open::Opened;

/// Why the stores could not be compared, or made to agree.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Data that one store has lost, according to another.
struct Loss {
    /// Which store lost what, and what shows it.
    lost: String,
    /// The consequences of continuing without the data.
    given_up: String,
    /// How to restore the data without loss.
    way_back: &'static str,
}

/// The consequences of continuing without a part of the log.
pub(super) const LOG_GIVEN_UP: &str = "what only the log had is lost: events that were not archived yet, dead letters, \
     notifications. Users, traits, manual lists and segments are sent to it again from config.sqlite, memberships that \
     no longer hold are ended with the cause `repair`, and offsets continue after the highest known one";
/// How to restore a lost part of the log.
pub(super) const LOG_WAY_BACK: &str = "Put log/ of the same time as config.sqlite and warehouse.duckdb back";

/// Compares the stores. With `accept_loss` it logs what was lost and makes the stores agree.
pub(super) async fn check(opened: &Opened, accept_loss: bool) -> Result<(), StartError> {
    opened.findings.iter().for_each(report);
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
    agree(opened, store_lost.is_some(), log_lost).await.map_err(|error| {
        StartError::new(format!(
            "the stores cannot be made to agree: {error}. Start again with `uss serve --accept-loss`"
        ))
    })
}

/// Makes the stores agree. If this is interrupted, the next start finds out.
async fn agree(opened: &Opened, is_store_lost: bool, log_lost: Option<Loss>) -> Result<(), Failure> {
    if let Some(Loss { lost, .. }) = log_lost {
        // The restore moves the log's ends, and then its positions no longer show the loss.
        opened.restore.record(&lost)?;
    }
    if is_store_lost {
        store::give_up(opened.log.as_ref(), opened.store.as_ref()).await?;
    }
    if opened.restore.lost()?.is_some() {
        restore::restore(opened).await?;
        opened.restore.remove()?;
    }
    Ok(())
}

fn report(Finding { code, message }: &Finding) {
    tracing::warn!(code, "{message}");
    metrics::counter!("uss_start_findings_total", "code" => *code).increment(1);
}

fn refusal(losses: &[&Loss]) -> StartError {
    let mut message = "the stores of the data folder do not agree, so nothing was started.".to_owned();
    for Loss { lost, given_up, way_back } in losses {
        message.push_str(&format!("\n* {lost}. {way_back}. Or accept it with `uss serve --accept-loss`: {given_up}"));
    }
    StartError::new(message)
}

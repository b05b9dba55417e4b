//! `uss import`: history from files, through the ingestion API.
//!
//! A file's rows ([`source`]) become events ([`mapping`], [`times`]), get ids derived from their content ([`ids`]) and are
//! posted in batches ([`post`]). An import that broke off, or is run twice, counts every row once.

mod ids;
mod mapping;
mod post;
mod source;
mod summary;
#[cfg(test)]
mod tests;
mod times;

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use segment_engine::time::Timestamp;
use tokio::sync::mpsc;

pub use mapping::{Constant, Renaming};
pub use source::Format;
pub use summary::Summary;

use ids::Occurrences;
use mapping::Mapping;
use post::{Batch, Poster};
use source::Row;

/// Batches that are read ahead of the network.
const BATCHES_AHEAD_MAX: usize = 4;

/// `uss import`'s arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// Files to import: CSV, NDJSON or Parquet, also packed with gzip
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// What the files are; by default their names say it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// What separates the cells of CSV; ' ' means any number of blanks
    #[arg(long, default_value = ",")]
    pub delimiter: char,
    /// Which column is an event's field, e.g. id=customer, created_at=time, activity_type=action, payload.coupon=code.
    /// Other columns are fields of their own name, or else payload properties
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub map: Vec<Renaming>,
    /// A field that is the same for all rows, e.g. id_type=cookie
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<Constant>,
    /// Leave out columns that --map does not name
    #[arg(long)]
    pub only_mapped: bool,
    /// Move all times by one span, so that the last event happened now
    #[arg(long)]
    pub shift_to_now: bool,
    /// The ingestion API
    #[arg(long, env = "USS_INGESTION_URL", default_value = "http://127.0.0.1:4000")]
    pub url: String,
    /// An admin key, if the API asks for keys
    #[arg(long, env = "USS_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// Reject events of unknown users instead of creating their users
    #[arg(long)]
    pub known_users_only: bool,
}

/// Why an import ended early. What had been sent until then stays; importing again counts nothing twice.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be opened or read.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A row cannot be read or made an event.
    #[error("{}, line {line}: {reason}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The line (CSV, NDJSON) or row (Parquet), from 1.
        line: u64,
        /// Why, and what to do.
        reason: String,
    },
    /// The API does not take events.
    #[error("{0}")]
    Api(String),
}

/// Imports all files, with a progress bar on standard error.
///
/// # Errors
/// The first row that is no event, or an API that cannot be reached: see [`ImportError`].
pub async fn run(args: &ImportArgs, now: Timestamp) -> Result<Summary, ImportError> {
    let poster = Poster::new(args)?;
    let mut summary = Summary::default();
    for file in &args.files {
        let shift_micros = match args.shift_to_now {
            true => blocking(args, file, move |args, file| shift_to(args, file, now)).await?,
            false => 0,
        };
        import_file(args, file, shift_micros, &poster, &mut summary).await?;
    }
    Ok(summary)
}

async fn import_file(
    args: &ImportArgs,
    file: &Path,
    shift_micros: i64,
    poster: &Poster,
    summary: &mut Summary,
) -> Result<(), ImportError> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
    let bar = progress_bar(file);
    let reading = blocking(args, file, {
        let bar = bar.clone();
        move |args, file| read_file(args, file, shift_micros, &bar, &sender)
    });
    let (read, posted) = tokio::join!(reading, poster.post_all(file, receiver, &bar, summary));
    bar.finish_and_clear();
    // If the API went away, reading stopped because of it: the API's error is the reason.
    posted?;
    read
}

/// Reads and maps a file on a thread of its own, and hands over batches.
fn read_file(
    args: &ImportArgs,
    file: &Path,
    shift_micros: i64,
    bar: &ProgressBar,
    batches: &mpsc::Sender<Batch>,
) -> Result<(), ImportError> {
    let mut occurrences = Occurrences::default();
    let mut batch = Batch::default();
    let ended = each_row(args, file, bar, |row, mapping| {
        let event = mapping.event(&row)?;
        let id = occurrences.event_id(&event)?;
        batch.push(row.line, &event.to_json(&id, shift_micros));
        let full = batch.is_full();
        Ok(!full || batches.blocking_send(std::mem::take(&mut batch)).is_ok())
    });
    ended?;
    if !batch.is_empty() {
        // The other side only goes away with an error of its own.
        drop(batches.blocking_send(batch));
    }
    Ok(())
}

/// How far to move the times so that the last one is `now`.
fn shift_to(args: &ImportArgs, file: &Path, now: Timestamp) -> Result<i64, ImportError> {
    let mut last = None;
    let bar = progress_bar(file);
    each_row(args, file, &bar, |row, mapping| {
        last = last.max(Some(mapping.event(&row)?.created_at));
        Ok(true)
    })?;
    bar.finish_and_clear();
    Ok(last.map_or(0, |last: Timestamp| now.0 - last.0))
}

/// Calls `each` for every row, until it answers `false`.
fn each_row(
    args: &ImportArgs,
    file: &Path,
    bar: &ProgressBar,
    mut each: impl FnMut(Row, &Mapping) -> Result<bool, String>,
) -> Result<(), ImportError> {
    let whole_file = |reason| ImportError::File { file: file.to_owned(), reason };
    let at_line = |line, reason| ImportError::Row { file: file.to_owned(), line, reason };
    let source = source::open(file, args.format, args.delimiter, bar).map_err(whole_file)?;
    let mapping = Mapping::new(args, source.columns.as_deref()).map_err(whole_file)?;
    for row in source.rows {
        let row = row.map_err(|error| at_line(error.line, error.reason))?;
        let line = row.line;
        if !each(row, &mapping).map_err(|reason| at_line(line, reason))? {
            break;
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    args: &ImportArgs,
    file: &Path,
    work: impl FnOnce(&ImportArgs, &Path) -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let (args, file) = (args.clone(), file.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&args, &file)).await;
    done.unwrap_or_else(|panic| Err(ImportError::Api(format!("reading failed by a defect: {panic}"))))
}

/// Bytes of the file, for the estimate; the message tells events and their rate.
fn progress_bar(file: &Path) -> ProgressBar {
    let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let style = ProgressStyle::with_template("{prefix} {bar:30} {percent:>3}%  {msg}  ETA {eta}")
        .expect("the template is constant and right");
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ProgressBar::new(bytes).with_style(style).with_prefix(name)
}

//! `uss import`: sends history from files to the ingestion API.
//!
//! The first rows of a file are checked before any event is sent ([`head`]). Its rows ([`source`])
//! become events ([`mapping`], [`times`]), get ids derived from their content ([`ids`]), and are
//! posted in batches ([`post`]). Rows that are rejected here or by the API are written to a file
//! ([`rejected`]). An import that is interrupted or repeated counts every row once.

mod event;
mod head;
mod ids;
mod mapping;
mod nested;
mod post;
mod rejected;
mod source;
mod summary;
#[cfg(test)]
mod tests;
mod times;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};
use segment_engine::time::{Timestamp, Zone};
use tokio::sync::mpsc;

pub(crate) use mapping::{Constant, Renaming};
pub(crate) use source::Format;
pub(crate) use summary::Summary;

use event::Problem;
use head::Checked;
use ids::Occurrences;
use mapping::Mapping;
use post::{Batch, Poster};
use rejected::{Rejected, RejectedRow, code};
use source::{BadRow, Row, RowError, RowResult};

/// Batches that are read before the network takes them.
const BATCHES_AHEAD_MAX: usize = 4;
/// The most rows of a file that a dry run shows.
const DRY_ROWS: usize = 10;

/// The arguments of `uss import`.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::doc_markdown, reason = "`--help` prints it as it is")]
pub(crate) struct ImportArgs {
    /// Files to import: CSV, NDJSON or Parquet. CSV and NDJSON may be compressed with gzip
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The format of the files. By default it follows from their names
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// The character between the cells of CSV, e.g. ';' or '\t'; ' ' means any number of blanks. By
    /// default a comma, in .tsv files a tab
    #[arg(long, value_parser = delimiter)]
    pub(crate) delimiter: Option<char>,
    /// Fill a field of the events from a column, e.g. id=customer, created_at=time,
    /// activity_type=action, payload.coupon=code, or order_total=cart.total for a value inside of
    /// an object. Other columns fill the field of their own name, or else a property of the payload
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub(crate) map: Vec<Renaming>,
    /// Set a field to the same value in all events, e.g. id_type=cookie
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(crate) set: Vec<Constant>,
    /// Leave out columns that --map does not name
    #[arg(long)]
    pub(crate) only_mapped: bool,
    /// The time zone of times without an offset, as Area/City. UTC by default
    #[arg(long, value_name = "AREA/CITY", value_parser = times::zone)]
    pub(crate) time_zone: Option<Zone>,
    /// The format of times, in strftime's directives, e.g. '%d.%m.%Y %H:%M:%S'
    #[arg(long, value_name = "FORMAT", value_parser = times::format)]
    pub(crate) time_format: Option<String>,
    /// Read numbers with a decimal comma: 1.234,56
    #[arg(long)]
    pub(crate) decimal_comma: bool,
    /// Shift all times by one span, so that the last event happened now
    #[arg(long)]
    pub(crate) shift_to_now: bool,
    /// The ingestion API
    #[arg(long, env = "USS_INGESTION_URL", default_value = "http://127.0.0.1:4000")]
    pub(crate) url: String,
    /// An admin key, if the API needs keys
    #[arg(long, env = "USS_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
    /// Reject events of unknown users instead of creating the users
    #[arg(long)]
    pub(crate) known_users_only: bool,
    /// The file for rejected rows, each with its line and the reason. By default FILE.rejected in
    /// the current folder, where FILE is the name of the first file
    #[arg(long, value_name = "FILE")]
    pub(crate) rejected: Option<PathBuf>,
    /// Stop when more rows than this are rejected
    #[arg(long, value_name = "N")]
    pub(crate) max_rejected: Option<u64>,
    /// Show the first rows of each file as events, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Parses `--delimiter`: a character, or a name of the tab.
fn delimiter(text: &str) -> Result<char, String> {
    if matches!(text, "\\t" | "tab") {
        return Ok('\t');
    }
    text.parse().map_err(|_| "write one character, or '\\t' for a tab".to_owned())
}

/// Why an import ended early. Events sent until then stay. Importing again counts no event twice.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    /// A file cannot be opened or read.
    #[error("{}: {reason}", file.display())]
    File { file: PathBuf, reason: String },
    /// A file cannot be read to its end.
    #[error("{}, line {line}: {reason}", file.display())]
    Row {
        file: PathBuf,
        /// The line (CSV, JSON) or row (Parquet), from 1.
        line: u64,
        reason: String,
    },
    /// More rows were rejected than the arguments allow.
    #[error(
        "stopped: more than {max} rows were rejected, see {}; the first: {example}\nEvents that were sent stay, and importing again \
         counts no event twice.", path.display()
    )]
    TooManyRejected {
        max: u64,
        /// The file of rejected rows.
        path: PathBuf,
        /// The first rejected row.
        example: String,
    },
    /// The API does not take events.
    #[error("{0}")]
    Api(String),
}

/// Imports all files, and shows a progress bar on standard error. A bad row is rejected, and the
/// import goes on.
///
/// # Errors
/// See [`ImportError`].
pub(crate) async fn run(args: &ImportArgs, now: Timestamp) -> Result<Summary, ImportError> {
    let poster = Poster::new(args)?;
    let rejected = Arc::new(Rejected::new(args)?);
    let mut accepted = 0;
    for file in &args.files {
        let shift_micros = match args.shift_to_now {
            true => blocking(args, file, move |args, file| shift_to(args, file, now)).await?,
            false => 0,
        };
        import_file(args, file, shift_micros, &poster, &rejected, &mut accepted).await?;
    }
    Ok(Summary { accepted, rejected: rejected.finish()? })
}

/// Returns the first rows of all files as the events they would become, or with the reason why they
/// would be rejected. Sends nothing.
///
/// # Errors
/// A file cannot be read, or the mapping does not fit it.
pub(crate) fn dry_run(args: &ImportArgs, now: Timestamp) -> Result<Vec<String>, ImportError> {
    let mut lines = Vec::new();
    for file in &args.files {
        let shift_micros = if args.shift_to_now { shift_to(args, file, now)? } else { 0 };
        let Checked { mapping, rows } = checked(args, file, &ProgressBar::hidden())?;
        let mut occurrences = Occurrences::default();
        for row in rows.take(DRY_ROWS) {
            lines.push(match converted(row, file, |row| event_json(&mapping, row, &mut occurrences, shift_micros))? {
                Ok((_, json)) => json.map_err(whole_file(file))?,
                Err(bad) => rejected::example(&bad.row(file)),
            });
        }
    }
    Ok(lines)
}

async fn import_file(
    args: &ImportArgs,
    file: &Path,
    shift_micros: i64,
    poster: &Poster,
    rejected: &Arc<Rejected>,
    accepted: &mut u64,
) -> Result<(), ImportError> {
    let (sender, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
    let bar = progress_bar(file);
    let reading = blocking(args, file, {
        let (bar, rejected) = (bar.clone(), rejected.clone());
        move |args, file| read_file(args, file, shift_micros, &bar, &sender, &rejected)
    });
    let (read, posted) = tokio::join!(reading, poster.post_all(file, receiver, &bar, rejected, accepted));
    bar.finish_and_clear();
    // If the API fails, reading stops too. The error of the API is the reason.
    posted?;
    read
}

/// Reads and maps a file, and sends its batches. Runs on a thread of its own.
fn read_file(
    args: &ImportArgs,
    file: &Path,
    shift_micros: i64,
    bar: &ProgressBar,
    batches: &mpsc::Sender<Batch>,
    rejected: &Rejected,
) -> Result<(), ImportError> {
    let Checked { mapping, rows } = checked(args, file, bar)?;
    let mut occurrences = Occurrences::default();
    let mut batch = Batch::default();
    for row in rows {
        match converted(row, file, |row| event_json(&mapping, row, &mut occurrences, shift_micros))? {
            Ok((row, json)) => batch.push(row.line, row.text, &json.map_err(whole_file(file))?),
            Err(bad) => rejected.add(&bad.row(file), false)?,
        }
        // The receiver only ends early with an error of its own.
        if batch.is_full() && batches.blocking_send(std::mem::take(&mut batch)).is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        drop(batches.blocking_send(batch));
    }
    Ok(())
}

/// Returns the shift in microseconds that makes the last time `now`.
fn shift_to(args: &ImportArgs, file: &Path, now: Timestamp) -> Result<i64, ImportError> {
    let bar = progress_bar(file);
    let Checked { mapping, rows } = checked(args, file, &bar)?;
    let mut last: Option<Timestamp> = None;
    for row in rows {
        if let Ok((_, created_at)) = converted(row, file, |row| Ok(mapping.event(row)?.created_at))? {
            last = last.max(Some(created_at));
        }
    }
    bar.finish_and_clear();
    Ok(last.map_or(0, |last| now.0 - last.0))
}

/// A row that cannot become an event.
struct BadEvent {
    line: u64,
    code: &'static str,
    message: String,
    text: String,
}

impl BadEvent {
    fn row<'a>(&'a self, file: &'a Path) -> RejectedRow<'a> {
        RejectedRow { file, line: self.line, code: self.code, message: &self.message, text: &self.text }
    }
}

/// Returns a row's event as the API takes it, with its id. The outer error is about this row, the inner
/// one about the whole file.
fn event_json(
    mapping: &Mapping,
    row: &Row,
    occurrences: &mut Occurrences,
    shift_micros: i64,
) -> Result<Result<String, String>, Problem> {
    let event = mapping.event(row)?;
    Ok(occurrences.event_id(&event).map(|id| event.to_json(&id, shift_micros)))
}

/// Returns a row and what `convert` makes of it, or why it has no event. An error means that the file
/// cannot be read any further.
fn converted<T>(
    row: RowResult,
    file: &Path,
    convert: impl FnOnce(&Row) -> Result<T, Problem>,
) -> Result<Result<(Row, T), BadEvent>, ImportError> {
    Ok(match row {
        Ok(row) => match convert(&row) {
            Ok(converted) => Ok((row, converted)),
            Err(Problem { code, message }) => Err(BadEvent { line: row.line, code, message, text: row.text }),
        },
        Err(RowError::Bad(BadRow { line, reason, text })) => {
            Err(BadEvent { line, code: code::UNREADABLE_ROW, message: reason, text })
        }
        Err(RowError::Broken { line, reason }) => {
            return Err(ImportError::Row { file: file.to_owned(), line, reason });
        }
    })
}

fn checked(args: &ImportArgs, file: &Path, bar: &ProgressBar) -> Result<Checked, ImportError> {
    head::open(args, file, bar).map_err(whole_file(file))
}

fn whole_file(file: &Path) -> impl Fn(String) -> ImportError {
    move |reason| ImportError::File { file: file.to_owned(), reason }
}

async fn blocking<T: Send + 'static>(
    args: &ImportArgs,
    file: &Path,
    work: impl FnOnce(&ImportArgs, &Path) -> Result<T, ImportError> + Send + 'static,
) -> Result<T, ImportError> {
    let (args, file) = (args.clone(), file.to_owned());
    let done = tokio::task::spawn_blocking(move || work(&args, &file)).await;
    done.unwrap_or_else(|panic| Err(ImportError::Api(format!("a defect ended the reading: {panic}; please report it"))))
}

/// Returns a bar that counts bytes of the file, to estimate the time. Its message shows events and
/// their rate.
fn progress_bar(file: &Path) -> ProgressBar {
    let bytes = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let style = ProgressStyle::with_template("{prefix} {bar:30} {percent:>3}%  {msg}  ETA {eta}")
        .expect("the template is constant and right");
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ProgressBar::new(bytes).with_style(style).with_prefix(name)
}

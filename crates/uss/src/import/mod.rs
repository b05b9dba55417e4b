//! `uss import`: history from files, through the ingestion API.
//!
//! A file's first rows are looked at before anything is sent ([`head`]). Its rows ([`source`]) become events ([`mapping`],
//! [`times`]), get ids derived from their content ([`ids`]) and are posted in batches ([`post`]). What is no event, to us or to the
//! API, goes to a file of its own ([`rejected`]). An import that broke off, or is run twice, counts every row once.

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

pub use mapping::{Constant, Renaming};
pub use source::Format;
pub use summary::Summary;

use event::{ImportedEvent, Problem};
use head::Checked;
use ids::Occurrences;
use mapping::Mapping;
use post::{Batch, Poster};
use rejected::{Rejected, RejectedRow, code};
use source::{BadRow, Row, RowError, RowResult};

/// Batches that are read ahead of the network.
const BATCHES_AHEAD_MAX: usize = 4;
/// How many rows of a file a dry run shows.
const DRY_ROWS: usize = 10;

/// `uss import`'s arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct ImportArgs {
    /// Files to import: CSV, NDJSON or Parquet, also packed with gzip
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// What the files are; by default their names say it
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// What separates the cells of CSV, e.g. ';' or '\t'; ' ' means any number of blanks. By default a comma, in .tsv files a tab
    #[arg(long, value_parser = delimiter)]
    pub delimiter: Option<char>,
    /// Which column is an event's field, e.g. id=customer, created_at=time, activity_type=action, payload.coupon=code,
    /// order_total=cart.total for a value inside of an object. Other columns are fields of their own name, or else payload
    /// properties
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    pub map: Vec<Renaming>,
    /// A field that is the same for all rows, e.g. id_type=cookie
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<Constant>,
    /// Leave out columns that --map does not name
    #[arg(long)]
    pub only_mapped: bool,
    /// The zone of times without an offset, as Area/City; UTC by default
    #[arg(long, value_name = "AREA/CITY", value_parser = times::zone)]
    pub time_zone: Option<Zone>,
    /// How times are written, with strftime's directives, e.g. '%d.%m.%Y %H:%M:%S'
    #[arg(long, value_name = "FORMAT", value_parser = times::format)]
    pub time_format: Option<String>,
    /// Numbers are written with a comma: 1.234,56
    #[arg(long)]
    pub decimal_comma: bool,
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
    /// Where rejected rows are written, with line and reason; by default FILE.rejected in the current folder, where FILE is the
    /// first file's name
    #[arg(long, value_name = "FILE")]
    pub rejected: Option<PathBuf>,
    /// Stop when more rows than this are rejected
    #[arg(long, value_name = "N")]
    pub max_rejected: Option<u64>,
    /// Show the first rows of each file as events, and send nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `--delimiter`: a character, or how a tab is written.
fn delimiter(text: &str) -> Result<char, String> {
    if matches!(text, "\\t" | "tab") {
        return Ok('\t');
    }
    text.parse().map_err(|_| "write one character, or '\\t' for a tab".to_owned())
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
    /// A file cannot be read to its end.
    #[error("{}, line {line}: {reason}", file.display())]
    Row {
        /// The file.
        file: PathBuf,
        /// The line (CSV, JSON) or row (Parquet), from 1.
        line: u64,
        /// Why, and what to do.
        reason: String,
    },
    /// More rows were rejected than the arguments allow.
    #[error(
        "stopped: more than {max} rows were rejected, see {}; the first: {example}\nWhat was sent stays, and importing again \
         counts nothing twice.", path.display()
    )]
    TooManyRejected {
        /// How many are allowed.
        max: u64,
        /// Where they stand.
        path: PathBuf,
        /// The first of them.
        example: String,
    },
    /// The API does not take events.
    #[error("{0}")]
    Api(String),
}

/// Imports all files, with a progress bar on standard error. A row that is no event is rejected, and the import goes on.
///
/// # Errors
/// A file that cannot be read, a mapping that does not fit it, too many rejected rows, or an API that cannot be reached: see
/// [`ImportError`].
pub async fn run(args: &ImportArgs, now: Timestamp) -> Result<Summary, ImportError> {
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

/// The first rows of all files as the events they would be, or with the reason why they would be rejected. Sends nothing.
///
/// # Errors
/// A file that cannot be read, or a mapping that does not fit it.
pub fn dry_run(args: &ImportArgs, now: Timestamp) -> Result<Vec<String>, ImportError> {
    let mut lines = Vec::new();
    for file in &args.files {
        let shift_micros = if args.shift_to_now { shift_to(args, file, now)? } else { 0 };
        let Checked { mapping, rows } = checked(args, file, &ProgressBar::hidden())?;
        let mut occurrences = Occurrences::default();
        for row in rows.take(DRY_ROWS) {
            lines.push(match event_of(&mapping, row, file)? {
                Ok((_, event)) => event.to_json(&occurrences.event_id(&event).map_err(whole_file(file))?, shift_micros),
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
    rejected: &Rejected,
) -> Result<(), ImportError> {
    let Checked { mapping, rows } = checked(args, file, bar)?;
    let mut occurrences = Occurrences::default();
    let mut batch = Batch::default();
    for row in rows {
        match event_of(&mapping, row, file)? {
            Ok((row, event)) => {
                let id = occurrences.event_id(&event).map_err(whole_file(file))?;
                batch.push(row.line, row.text, &event.to_json(&id, shift_micros));
            }
            Err(bad) => rejected.add(&bad.row(file), false)?,
        }
        // The other side only goes away with an error of its own.
        if batch.is_full() && batches.blocking_send(std::mem::take(&mut batch)).is_err() {
            return Ok(());
        }
    }
    if !batch.is_empty() {
        drop(batches.blocking_send(batch));
    }
    Ok(())
}

/// How far to move the times so that the last one is `now`.
fn shift_to(args: &ImportArgs, file: &Path, now: Timestamp) -> Result<i64, ImportError> {
    let bar = progress_bar(file);
    let Checked { mapping, rows } = checked(args, file, &bar)?;
    let mut last: Option<Timestamp> = None;
    for row in rows {
        if let Ok((_, event)) = event_of(&mapping, row, file)? {
            last = last.max(Some(event.created_at));
        }
    }
    bar.finish_and_clear();
    Ok(last.map_or(0, |last| now.0 - last.0))
}

/// A row that is no event.
struct NoEvent {
    line: u64,
    code: &'static str,
    message: String,
    text: String,
}

impl NoEvent {
    fn row<'a>(&'a self, file: &'a Path) -> RejectedRow<'a> {
        RejectedRow { file, line: self.line, code: self.code, message: &self.message, text: &self.text }
    }
}

/// The event of a row, or why there is none; an error if nothing more can be read.
fn event_of(
    mapping: &Mapping,
    row: RowResult,
    file: &Path,
) -> Result<Result<(Row, ImportedEvent), NoEvent>, ImportError> {
    Ok(match row {
        Ok(row) => match mapping.event(&row) {
            Ok(event) => Ok((row, event)),
            Err(Problem { code, message }) => Err(NoEvent { line: row.line, code, message, text: row.text }),
        },
        Err(RowError::Bad(BadRow { line, reason, text })) => {
            Err(NoEvent { line, code: code::UNREADABLE_ROW, message: reason, text })
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

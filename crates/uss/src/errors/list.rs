//! `uss errors list`: a table.

use std::io::Write;

use serde_json::value::RawValue;

use super::{Entry, ErrorsError, PAGE_MAX, layout, page, printable, signed};
use crate::client::{Service, ServiceError};

/// Lists dead letters (rejected events) and failed computations, oldest first: by default the last
/// ones
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct List {
    /// Begin with the record at this offset, instead of `--limit` before the end
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// The most records to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print whole records, one JSON object per line
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(&self, service: &Service, out: &mut dyn Write) -> Result<(), ErrorsError> {
        let (records, next_offset) = self.records(service).await?;
        if self.json {
            for record in records {
                writeln!(out, "{}", layout::one_line(record.get()))?;
            }
            return Ok(());
        }
        if records.is_empty() {
            writeln!(out, "no records: nothing was rejected{}", self.from.map_or("", |_| " from there on"))?;
            return Ok(());
        }
        let entries = records.iter().filter_map(|record| serde_json::from_str(record.get()).ok());
        write!(out, "{}", table(&entries.collect::<Vec<Entry>>()))?;
        if self.from.is_some() && records.len() == self.limit as usize {
            writeln!(out, "for more, add --from {next_offset}")?;
        }
        Ok(())
    }

    async fn records(&self, service: &Service) -> Result<(Vec<Box<RawValue>>, u64), ServiceError> {
        let limit = self.limit as usize;
        let mut from = self.from.map_or(-i64::from(self.limit), signed);
        let mut records: Vec<Box<RawValue>> = Vec::new();
        loop {
            let found = page(service, from, PAGE_MAX.min(limit - records.len())).await?;
            let is_end = found.data.is_empty();
            records.extend(found.data);
            if is_end || records.len() >= limit {
                return Ok((records, found.next_offset));
            }
            from = signed(found.next_offset);
        }
    }
}

/// Offset, when, code, client id, message. The last column is not padded.
fn table(entries: &[Entry]) -> String {
    let titles = ["OFFSET", "WHEN", "CODE", "CLIENT ID", "MESSAGE"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        // A replay has done what the message asks for.
        let message = if entry.replayed { "accepted by a replay" } else { &entry.message };
        [&entry.offset.to_string(), &entry.at, &entry.code, &entry.key, message].map(printable)
    });
    let rows: Vec<[String; 5]> = std::iter::once(titles).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [offset, at, code, key] = [0, 1, 2, 3].map(width);
    let line = |[a, b, c, d, e]: &[String; 5]| format!("{a:>offset$}  {b:<at$}  {c:<code$}  {d:<key$}  {e}\n");
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let entry = |offset, key: &str, replayed| Entry {
            offset,
            key: key.to_owned(),
            replayed,
            error_type: "ingest_event_error".to_owned(),
            code: "USER_NOT_FOUND".to_owned(),
            message: "no user\nhas it".to_owned(),
            at: "2026-01-01T00:00:00.000000Z".to_owned(),
        };
        assert_eq!(
            table(&[entry(7, "a", false), entry(10, "\u{1b}[2Jü", true)]),
            "\
OFFSET  WHEN                         CODE            CLIENT ID   MESSAGE
     7  2026-01-01T00:00:00.000000Z  USER_NOT_FOUND  a           no user\\nhas it
    10  2026-01-01T00:00:00.000000Z  USER_NOT_FOUND  \\u{1b}[2Jü  accepted by a replay
"
        );
    }
}

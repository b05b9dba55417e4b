//! Names of time zones in a clause.

use sqlparser::ast::Expr as Ast;

use super::time_function::constant_text;
use super::{CompileError, Pos, Resolver, code, start_of};
use crate::plan::Zone;

/// Abbreviations that are also zones of the time zone database. PostgreSQL takes them for the fixed
/// offset of the winter, even if the zone of that name has summer time.
const FIXED_OFFSETS: [(&str, &str); 7] = [
    ("CET", "'Europe/Paris' or 'Europe/Berlin'"),
    ("EET", "'Europe/Athens' or 'Europe/Helsinki'"),
    ("EST", "'America/New_York', or 'America/Panama' for a place without summer time"),
    ("HST", "'Pacific/Honolulu'"),
    ("MET", "'Europe/Paris' or 'Europe/Berlin'"),
    ("MST", "'America/Denver', or 'America/Phoenix' for a place without summer time"),
    ("WET", "'Europe/Lisbon'"),
];

/// Abbreviations that are not zones, and the zones that are mostly meant.
const OTHERS: [(&str, &str); 18] = [
    ("AEST", "'Australia/Sydney' or 'Australia/Brisbane'"),
    ("AEDT", "'Australia/Sydney'"),
    ("BRT", "'America/Sao_Paulo'"),
    ("BST", "'Europe/London'"),
    ("CDT", "'America/Chicago'"),
    ("CEST", "'Europe/Paris' or 'Europe/Berlin'"),
    ("CST", "'America/Chicago' or 'Asia/Shanghai'"),
    ("EDT", "'America/New_York'"),
    ("EEST", "'Europe/Athens' or 'Europe/Helsinki'"),
    ("IST", "'Asia/Kolkata', 'Europe/Dublin' or 'Asia/Jerusalem'"),
    ("JST", "'Asia/Tokyo'"),
    ("KST", "'Asia/Seoul'"),
    ("MDT", "'America/Denver'"),
    ("MSK", "'Europe/Moscow'"),
    ("PDT", "'America/Los_Angeles'"),
    ("PST", "'America/Los_Angeles'"),
    ("SAST", "'Africa/Johannesburg'"),
    ("SGT", "'Asia/Singapore'"),
];

impl Resolver {
    pub(super) fn zone_of(&self, tree: &Ast, pos: Pos) -> Result<Zone, CompileError> {
        let Some(name) = constant_text(tree) else {
            return Err(zone_not_constant(start_of(tree, pos)));
        };
        if !self.saved
            && let Some(zones) = zones_of(&FIXED_OFFSETS, name)
        {
            let message = format!(
                "'{name}' is an abbreviation, not a time zone: Postgres takes it for one offset all year, others for a zone \
                 with summer time"
            );
            return Err(CompileError::new(code::BAD_LITERAL, pos, message).suggest(format!("Write {zones}")));
        }
        Zone::parse(name).ok_or_else(|| unknown(name, pos))
    }
}

/// The error for a zone that is not constant.
pub(super) fn zone_not_constant(pos: Pos) -> CompileError {
    CompileError::new(
        code::BAD_LITERAL,
        pos,
        "a time zone is a constant text: the instants at which a clause flips must not depend on an event or a trait",
    )
    .suggest(
        "Write a name of the IANA database, 'Europe/Berlin'. For several zones, write a condition for each: traits->>'tz' = \
         'Europe/Berlin' AND (now() AT TIME ZONE 'Europe/Berlin')::date = … OR traits->>'tz' = 'America/New_York' AND …",
    )
}

fn unknown(name: &str, pos: Pos) -> CompileError {
    if is_offset(name) {
        // POSIX names of zones count westwards: '+02:00' is two hours behind UTC.
        let message = format!(
            "'{name}' is an offset, not a time zone: it leaves out changes of the clock, and Postgres reads its sign the other \
             way round"
        );
        return CompileError::new(code::BAD_LITERAL, pos, message).suggest(
            "Write the Area/City whose clock is meant, e.g. 'Europe/Berlin' or 'America/Los_Angeles', or 'UTC'",
        );
    }
    if let Some(zones) = zones_of(&OTHERS, name) {
        let message = format!("'{name}' is an abbreviation, not a time zone");
        return CompileError::new(code::BAD_LITERAL, pos, message).suggest(format!("Write {zones}"));
    }
    refused(pos, format!("there is no time zone '{name}'"))
}

fn refused(pos: Pos, what: String) -> CompileError {
    CompileError::new(code::BAD_LITERAL, pos, what)
        .suggest("Write a name of the IANA database: 'Europe/Berlin', 'America/Los_Angeles', 'UTC'")
}

fn zones_of(table: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(abbreviation, _)| abbreviation.eq_ignore_ascii_case(name.trim())).map(|(_, zones)| *zones)
}

/// `+02:00`, `-5`, `UTC+2`, `GMT-03:00`.
fn is_offset(name: &str) -> bool {
    let name = name.trim().to_ascii_uppercase();
    let offset = name.strip_prefix("UTC").or_else(|| name.strip_prefix("GMT")).unwrap_or(&name).trim_start();
    let digits = offset.strip_prefix(['+', '-']).unwrap_or(offset);
    digits.starts_with(|first: char| first.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == ':')
}

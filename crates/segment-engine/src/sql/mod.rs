//! The same plan as SQL for DuckDB: the second, independent answer to who is in a segment.
//!
//! The queries read four relations of the schema `user_segment_analytics`: the view `user_events` (one row an event,
//! absorbed users already mapped to their survivors), `users` (all known users, absorbed ones left out) and `traits`.
//! [`MACROS`] must have been run in the database. Nothing depends on the session's time zone.

mod aggregate;
mod cast;
mod expr;
mod funnel;
mod json;
mod query;
mod text;
mod time;

pub use query::{QueryError, SegmentSource, member_query, members_query, size_query};

/// Defines the macros that the generated queries call. Creates the schema they stand in; may be repeated.
pub const MACROS: &str = concat!(
    "CREATE SCHEMA IF NOT EXISTS user_segment_analytics;\n",
    include_str!("macros.sql"),
    include_str!("text_macros.sql")
);

//! A plan as SQL for DuckDB: a second, independent way to find the users in a segment.
//!
//! The queries read three relations of the schema `user_segment_analytics`: the view `user_events`
//! (one row per event, absorbed users already mapped to their survivors), `users` (all known users
//! without absorbed ones) and `traits`. [`MACROS`] must have been run in the database. Nothing
//! depends on the session's time zone.

mod aggregate;
mod cast;
mod expr;
mod funnel;
mod json;
mod query;
mod text;
mod time;

pub use query::{QueryError, SegmentSource, event_condition, member_query, members_query, sample_query, size_query};

/// Creates the schema and the macros that the generated queries call. May be run again.
pub const MACROS: &str = concat!(
    "CREATE SCHEMA IF NOT EXISTS user_segment_analytics;\n",
    include_str!("macros.sql"),
    include_str!("text_macros.sql")
);

//! One suite per port: what its documentation promises, as checks that every implementation passes.
//!
//! A suite panics where a promise is broken. An adapter's own tests run it, and add what only that adapter can show
//! (damaged files, a full disk).
#![allow(clippy::unwrap_used, reason = "suites are tests: a failure is a panic")]

pub mod checkpoints;
pub mod config_store;
pub mod log;
mod log_time;
pub mod warehouse;
pub mod warehouse_sql;

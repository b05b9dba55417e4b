//! One suite per port. It checks what the port's documentation promises, and panics where a promise
//! is broken.
//!
//! Every adapter's tests run it, and add what only that adapter can get wrong (damaged files, a
//! full disk).
#![expect(clippy::unwrap_used, reason = "suites are tests: a failure is a panic")]

pub mod checkpoints;
pub mod config_store;
pub mod log;
mod log_time;
pub mod warehouse;
mod warehouse_history;
pub mod warehouse_sql;

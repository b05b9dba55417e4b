//! Implements the ports on real backends: fjall, DuckDB and SQLite.

pub mod duckdb;
pub mod embedded;
mod quiet;
mod space;
pub mod sql;
mod waiting;

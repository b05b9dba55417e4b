//! The ports implemented on real backends: fjall, DuckDB, SQLite.

pub mod duckdb;
pub mod embedded;
mod space;
pub mod sql;

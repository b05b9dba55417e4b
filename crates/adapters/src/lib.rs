//! The ports implemented on real backends: fjall, DuckDB, SQLite.

pub mod embedded;
pub mod sql;

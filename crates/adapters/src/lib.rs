//! The ports implemented on real backends: fjall, DuckDB, SQLite.

pub mod sql;

//! Sample data, the same each time, from a fixed seed.

pub(crate) mod analytics;
pub(crate) mod data;

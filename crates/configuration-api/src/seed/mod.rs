//! Sample data: always the same, from a fixed seed.

pub(crate) mod analytics;
pub(crate) mod data;

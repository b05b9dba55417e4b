//! The JSON of requests and responses.

pub(crate) mod fields;
pub(crate) mod lists;
pub(crate) mod response;
pub(crate) mod views;

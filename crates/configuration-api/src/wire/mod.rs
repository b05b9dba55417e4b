//! The JSON of requests and responses, apart from what the routes do with it.

pub(crate) mod fields;
pub(crate) mod lists;
pub(crate) mod response;
pub(crate) mod views;

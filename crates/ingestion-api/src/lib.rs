//! Receives events, resolves identities, and answers once the log has them.
//!
//! The path of an event: [`unpack`] undoes gzip, [`routes`] takes the request, [`body`] and [`split`], or [`stream`] and
//! [`lines`], find the events in it, [`admission`] decides from the bytes alone whether each is fit, [`pipeline`] finds their
//! users ([`cache`], then the identities port), appends all of them at once, rejected ones as [`refusal`] records, and answers
//! one [`outcome`] each, with warnings of [`misplaced`] fields.
//! [`mend`] sends rejected ones through again, over HTTP by way of [`errors`].

pub mod admission;
mod body;
pub mod cache;
mod capacity;
mod cors;
mod errors;
pub mod future;
pub mod limits;
mod lines;
pub mod mend;
pub mod misplaced;
mod mistaken;
pub mod outcome;
pub mod pipeline;
mod refusal;
pub mod routes;
mod split;
mod stream;
mod unpack;

pub use cors::AllowedOrigins;
pub use future::{FutureEvents, FuturePolicy};
pub use limits::Limits;
pub use pipeline::{Ingestion, Options, UnknownUsers};
pub use routes::router;

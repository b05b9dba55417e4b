//! Receives events, resolves identities, and answers once the log has the events.
//!
//! The path of an event: [`unpack`] undoes gzip, [`routes`] takes the request, [`body`] and [`split`], or [`stream`] and
//! [`lines`], find the events in it, [`admission`] decides from the bytes alone whether each can be accepted, [`pipeline`]
//! finds their users ([`cache`], then the identities port), appends all of them at once, rejected ones as [`refusal`] records,
//! and returns one [`outcome`] each, with warnings of [`misplaced`] fields.
//! [`dead_letter`] sends rejected ones through again, over HTTP by way of [`errors`].

pub mod admission;
mod behind;
mod body;
pub mod capacity;
mod cors;
pub mod dead_letter;
mod errors;
pub mod future;
pub mod limits;
mod lines;
mod lookups;
pub mod misplaced;
mod mistaken;
pub mod outcome;
pub mod pipeline;
mod refusal;
pub mod routes;
mod sink;
mod split;
mod stream;
mod unpack;

pub use future::{FutureEvents, FuturePolicy};
pub use limits::Limits;
pub use pipeline::{IngestError, Ingestion, Options, UnknownUsers};
pub use routes::router;
pub use uss_http::AllowedOrigins;

//! The HTTP API of users, identities, traits, segments and activities, and of their memberships.
//!
//! A write puts the change and the records for the engine into the config store, in one
//! transaction. [`Relay`] then appends the records to the log. [`router()`] lists all routes.

mod api;
mod erasure;
mod history;
mod live;
mod outbox;
mod routes;
mod seed;
mod store_identities;
mod wire;

pub use api::{Api, SegmentBound, TopicNames};
pub use erasure::ErasureDelays;
pub use outbox::{Holds, PRODUCER, Relay, RelayError};
pub use routes::{load_sample_data, router};
pub use store_identities::StoreIdentities;

//! Users, identities, traits, segments, activities over HTTP, and who is in what and why.
//!
//! A write goes into the config store together with the records that tell the engine of it; [`Relay`] moves those to the log.
//! [`router()`] lists all routes.

mod api;
mod erasure;
mod history;
mod live;
mod outbox;
mod routes;
mod seed;
mod store_identities;
mod wire;

pub use api::{Api, Gone, SegmentBound, TopicNames};
pub use erasure::ErasureDelays;
pub use outbox::{Holds, PRODUCER, Relay, RelayError};
pub use routes::{load_sample_data, router};
pub use store_identities::StoreIdentities;

//! Users, identities, traits, segments, activities over HTTP, and who is in what and why.
//!
//! A write goes into the config store together with the records that tell the engine of it; [`relay`] moves those to the log.
//! The routes are one file per resource; [`router()`] lists them all.

mod activities;
mod answer;
mod api;
mod clause;
mod clock;
mod db_actions;
mod explain;
mod fields;
mod history;
mod holds;
mod identities;
mod lists;
mod live;
mod memberships;
mod positions;
pub mod relay;
mod router;
mod saved;
mod seed;
mod segments;
mod store_identities;
mod topics;
mod traits;
mod transitions;
mod users;
mod views;

pub use api::{Api, Gone, SegmentBound, TopicNames};
pub use db_actions::load_sample_data;
pub use holds::Holds;
pub use relay::Relay;
pub use router::router;
pub use store_identities::StoreIdentities;

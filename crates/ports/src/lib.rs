//! What the services need from the outside, as traits: event log, warehouse, config store, checkpoint store, clock.
//!
//! The wire formats of the topics stand in [`records`]. For tests, the crate `ports-testkit` has an in-memory reference and a
//! contract suite for each port.

pub mod checkpoints;
pub mod clock;
pub mod config_store;
pub mod error_code;
pub mod event_sink;
pub mod identities;
pub mod log;
pub mod records;
pub mod segment_queries;
pub mod warehouse;

pub use error_code::ErrorCode;

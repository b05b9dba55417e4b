//! The ports: traits of everything outside that the services need, such as the event log, the
//! warehouse, the config store, the checkpoint store and the clock.
//!
//! [`records`] has the wire formats of the topics. For tests, the crate `ports-testkit` has an
//! in-memory reference and a contract suite for each port.

pub mod checkpoints;
pub mod clock;
pub mod config_store;
pub mod error_code;
pub mod event_sink;
pub mod identities;
pub mod log;
pub mod readers;
pub mod records;
pub mod segment_queries;
pub mod warehouse;

pub use error_code::ErrorCode;

//! What the services need from the outside, as traits: event log, warehouse, config store, checkpoint store, clock.
//!
//! Each port has an in-memory reference in [`memory`] and one contract suite in [`contract`] that every adapter passes.
//! The wire formats of the topics stand in [`records`].

pub mod checkpoints;
pub mod clock;
pub mod config_store;
pub mod contract;
pub mod event_sink;
pub mod identities;
pub mod log;
pub mod memory;
pub mod records;
pub mod segment_queries;
pub mod warehouse;

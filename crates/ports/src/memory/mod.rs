//! The ports in memory: small, obviously right, and the measure of every adapter.
//!
//! Each passes the same suite of [`crate::contract`] as the real adapters. Nothing outlives the process, but a handle can
//! be opened again on the same data, as a restarted process would.

mod config_store;

pub use config_store::MemoryConfigStore;

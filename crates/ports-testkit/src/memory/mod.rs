//! The ports in memory: small, obviously right, and the measure of every adapter.
//!
//! Each passes the same suite of [`crate::contract`] as the real adapters. Nothing outlives the process, but a handle can
//! be opened again on the same data, as a restarted process would.

mod checkpoints;
mod config_store;
mod identities;
mod log;
mod warehouse;

pub use checkpoints::MemoryCheckpoints;
pub use config_store::MemoryConfigStore;
pub use identities::MemoryIdentities;
pub use log::MemoryLog;
pub use warehouse::MemoryWarehouse;

//! The ports in memory: small and obviously correct, as references for the adapters.
//!
//! Each passes the same suite of [`crate::contract`] as the real adapters. Nothing outlives the
//! process, but a test can open the same data again, as a restarted process does.

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

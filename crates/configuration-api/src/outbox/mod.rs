//! Moves outbox rows to the log.

mod holds;
mod relay;

pub use holds::Holds;
pub use relay::{PRODUCER, Relay, RelayError};

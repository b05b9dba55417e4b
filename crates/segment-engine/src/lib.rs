//! The segment engine: what a where clause means, and who is in which segment at which instant.
//!
//! The crate is pure and synchronous. It performs no I/O, reads no clock, draws no random number and starts no thread:
//! the same inputs give the same outputs, and time comes in as an argument.

pub mod accumulator;
pub mod decimal;
mod encoding;
pub mod eval;
pub mod event;
pub mod language;
pub mod machine;
pub mod plan;
pub mod sql;
pub mod time;
pub mod value;

//! The segment engine: what a where clause means, and which users are in which segment at which
//! instant.
//!
//! The crate is pure and synchronous. It does no I/O, reads no clock, draws no random numbers and
//! starts no threads: the same inputs give the same outputs, and time is an argument.

pub mod accumulator;
pub mod decimal;
mod encoding;
pub mod eval;
pub mod event;
pub mod ids;
pub mod language;
pub mod machine;
pub mod plan;
pub mod schema;
pub mod sql;
mod thin;
pub mod time;
pub mod value;

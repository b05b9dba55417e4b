//! The `uss` binary as a library: the command line ([`cli`]) and the tools that need no service.

pub mod cli;
pub mod import;
pub mod serve;
pub mod settings;

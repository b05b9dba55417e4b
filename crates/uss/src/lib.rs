//! The `uss` binary as a library: the command line ([`cli`]), the composition root ([`serve`]), and the other commands:
//! those that need no service, and the clients of a running one.

pub mod cli;
pub mod client;
pub mod errors;
pub mod import;
pub mod replay;
pub mod serve;
pub mod settings;
pub mod topic;
pub mod users;

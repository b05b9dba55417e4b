//! The `uss` binary as a library, so that tests can call it: the command line ([`cli`]), the
//! composition root ([`serve`]), and the other commands. Some of these need no service, the others
//! are clients of a running one.

pub mod cli;
mod client;
mod errors;
mod import;
pub mod replay;
pub mod serve;
pub mod settings;
mod topic;
mod users;

//! The `uss` binary as a library: the command line ([`cli`]), the composition root ([`serve`]), and the tools that need no
//! service.

pub mod cli;
pub mod import;
pub mod replay;
pub mod serve;
pub mod settings;

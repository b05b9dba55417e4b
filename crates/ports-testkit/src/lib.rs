//! For tests: an in-memory reference ([`memory`]) and a contract suite ([`contract`]) for each
//! port. The reference and every adapter pass the suite. Only a dev-dependency.

pub mod contract;
pub mod memory;

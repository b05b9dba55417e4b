//! What tests of the ports share: per port an in-memory reference ([`memory`]) and a contract suite ([`contract`]) that the
//! reference and every adapter pass. Crates use it as a dev-dependency only.

pub mod contract;
pub mod memory;

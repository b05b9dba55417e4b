//! One suite per port: what every adapter must do, whatever it is made of. For tests only.

pub mod config_store;

//! The segment service: the log in, transitions out.
//!
//! The path of one event, from request to transition:
//!
//! 1. `ingestion-api/src/admission/mod.rs` decides whether the body is an event; its routes resolve
//!    the user and append the event to the log.
//! 2. [`partition`]: the partition's worker reads it in its next turn;
//! 3. `partition/apply.rs` decodes it and hands it to the machine,
//! 4. where `segment-engine/src/machine/inputs.rs` adds it to the accumulators whose filters take it,
//! 5. and `segment-engine/src/machine/evaluate.rs` evaluates the segments whose conditions flipped.
//! 6. `partition/notify.rs` turns each change into a notification. The turn's commit appends the
//!    notifications together with the consumed offset.
//!
//! [`service`] starts and stops everything; [`handle`] is how others query it. Beside the workers
//! run [`definitions`], [`archiver`] (which learns of [`left_out`] from the worker), [`membership_writer`], [`retention`] and [`erasure`], which wipes
//! what deleted users left in files. [`queries`] answers the configuration API; [`stats`] are the
//! numbers for operators.

pub mod archiver;
pub mod definitions;
pub mod erasure;
pub mod handle;
pub mod left_out;
pub mod membership_writer;
pub mod partition;
pub mod plans;
pub mod queries;
pub mod readers;
pub mod retention;
pub mod service;
pub mod settings;
pub mod stats;
mod supervise;
mod worker;

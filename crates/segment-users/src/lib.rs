//! The segment service: the log in, transitions out.
//!
//! The path of one event, from request to transition:
//!
//! 1. `ingestion-api/src/admission.rs` decides whether the body is an event; its routes resolve the user and append the event to the log.
//! 2. [`partition`]: the partition's worker reads it in its next turn;
//! 3. [`mod@apply`] decodes it and hands it to the machine,
//! 4. where `segment-engine/src/machine/inputs.rs` updates the accumulators that its filters let it into,
//! 5. and `segment-engine/src/machine/evaluate.rs` evaluates the segments whose conditions flipped.
//! 6. [`notify`] turns each change into a notification; the turn's commit appends them with the consumed offset, at once.
//!
//! Beside the workers: [`definitions`] brings segment definitions into every partition, [`backfill`] reads the history of a new
//! one, [`archiver`] brings events into the warehouse, [`memberships`] brings transitions into the config store, [`retention`]
//! trims the log, [`service`] runs them all, [`figures`] says how far they are.

pub mod apply;
pub mod archiver;
pub mod backfill;
pub mod definitions;
pub mod figures;
mod lane;
pub mod memberships;
pub mod notify;
pub mod partition;
pub mod plans;
pub mod recovery;
pub mod retention;
pub mod service;
pub mod settings;

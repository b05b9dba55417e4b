//! The configuration API over HTTP, on in-memory ports. The files mirror the URLs.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod access;
mod activities;
mod db_actions;
mod identities;
mod memberships;
mod relay;
mod segments;
mod streams;
mod topics;
mod transitions;
mod users;
mod world;

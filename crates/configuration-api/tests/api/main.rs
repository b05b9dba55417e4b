//! The configuration API over HTTP, on in-memory ports. The files mirror the URLs.
#![allow(clippy::unwrap_used)]

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

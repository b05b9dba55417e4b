//! What the two APIs share: errors as HTTP responses, extractors, access keys, pages, request
//! durations, health and metrics.
//!
//! A handler returns `Result<_, Problem>`. [`serve::finish`] gives an API's router its error bodies
//! and measures its requests.

pub mod access;
pub mod connections;
pub mod cross_site;
pub mod extract;
pub mod operations;
pub mod origins;
pub mod pace;
pub mod page;
pub mod problem;
pub mod serve;
pub mod unread;

pub use access::{Access, ApiKeys};
pub use cross_site::CrossSiteGuard;
pub use origins::{AllowedHosts, AllowedOrigins};
pub use page::{Page, PageRequest};
pub use problem::{Kind, Problem};

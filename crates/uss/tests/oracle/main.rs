//! Who is in which segment at which instant, answered independently several times over and compared.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod history;
mod naive;
mod replay;

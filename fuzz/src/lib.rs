//! Each target takes any bytes and panics if what they lead to must not be. `make fuzz` looks for such bytes; `cargo test`
//! runs the targets over the corpus, so that they keep working.
#![expect(clippy::unwrap_used, reason = "a panic is what a target reports with")]

mod targets {
    pub(crate) mod checkpoint;
    pub(crate) mod clause;
    pub(crate) mod event;
    pub(crate) mod lines;
    pub(crate) mod record;
    pub(crate) mod replay;
}

/// A target: its name, which is that of its corpus's folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("clause", targets::clause::run),
    ("event", targets::event::run),
    ("lines", targets::lines::run),
    ("record", targets::record::run),
    ("checkpoint", targets::checkpoint::run),
    ("replay", targets::replay::run),
];

/// The target of this name.
pub fn target(name: &str) -> Option<fn(&[u8])> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}

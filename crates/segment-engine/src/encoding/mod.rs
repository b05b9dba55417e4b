//! How what outlives a build is written down: the layouts of checkpoints and transfers, apart from the types they hold.
//!
//! The bytes are [postcard](https://postcard.jamesmunns.com/wire-format)'s: fields and variants stand by position, without
//! names. So a layout never changes. Fields may be renamed here together with their type, but not moved, added or removed;
//! a new variant comes last. What must change otherwise gets a new layout and a new format number
//! (`machine/snapshot.rs`), and the old one stays readable. `tests/checkpoints.rs` holds this to stored bytes.
//!
//! Numbers that are their own layout (timestamps, decimals, ids) derive theirs where they are defined.

mod accumulator;
mod value;

/// Gives a type the layout that is described apart from it.
macro_rules! written_as {
    ($($type:ty: $layout:ident),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $layout::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $layout::deserialize(deserializer)
            }
        }
    )+};
}
pub(crate) use written_as;

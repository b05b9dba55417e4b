//! The layouts of what outlives a build, checkpoints and transfers, separate from the types that
//! they hold.
//!
//! The bytes are [postcard](https://postcard.jamesmunns.com/wire-format)'s: fields and variants are
//! found by position, not by name. So a layout never changes. Its fields and variants may be
//! renamed together with their type, but not moved, added or removed; a new variant comes last. Any
//! other change needs a new layout and a new format number (`machine/snapshot.rs`), and the old one
//! stays readable. `tests/checkpoints` compares this with stored bytes.
//!
//! Here are the layouts of values and accumulators; `machine/encoding.rs` has those of the rest of
//! a user. Types that are a single number (timestamps, decimals, ids) derive theirs where they are
//! defined.

mod accumulator;
mod value;

/// Implements serde for a type by its layout.
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

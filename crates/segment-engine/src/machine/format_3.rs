//! Checkpoints and transfers of format 3: they name a store by a hash of its key's `Debug` text.
//!
//! So the `Debug` text of plans is part of that format, as the derives give it, with the compiled pattern of a `Pattern`
//! and the rules of a `Zone` in it. `tests/checkpoints.rs` holds it to stored bytes.

use super::store::{StoreKey, StoreKind, fnv1a};

/// The name that format 3 gives a store.
pub(super) fn fingerprint(key: &StoreKey) -> u64 {
    let StoreKey { fixed, timed, argument, kind } = key;
    let kind = match kind {
        StoreKind::Ring(capacity) => format!("Ring({capacity})"),
        StoreKind::Count(cap) => format!("Count({cap})"),
        StoreKind::Sum => "Sum".to_owned(),
        StoreKind::Extreme(rank) => format!("Extreme({rank:?})"),
        StoreKind::Distinct(cap) => format!("Distinct({cap})"),
        // No build of format 3 kept funnels: this only must be no other store's name.
        StoreKind::Funnel { within, .. } => format!("Funnel({within})"),
    };
    fnv1a(&format!("StoreKey {{ fixed: {fixed:?}, timed: {timed:?}, argument: {argument:?}, kind: {kind} }}"))
}

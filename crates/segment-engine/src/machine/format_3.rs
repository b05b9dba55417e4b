//! Checkpoints and transfers of format 3: they name an accumulator by a hash of its key's `Debug`
//! text.
//!
//! So the `Debug` text of plans is part of that format, as the derives give it, with the compiled
//! pattern of a `Pattern` and the rules of a `Zone` in it. `tests/checkpoints` compares it with
//! stored bytes.

use super::accumulator_key::{AccumulatorKey, AccumulatorKind, fnv1a};

/// Returns the name that format 3 gives an accumulator. The words in it are those of the builds
/// that wrote the format.
pub(super) fn fingerprint(key: &AccumulatorKey) -> u64 {
    let AccumulatorKey { fixed, timed, argument, kind } = key;
    let kind = match kind {
        AccumulatorKind::NewestK(capacity) => format!("Ring({capacity})"),
        AccumulatorKind::Count(cap) => format!("Count({cap})"),
        AccumulatorKind::Sum => "Sum".to_owned(),
        AccumulatorKind::Extreme(rank) => format!("Extreme({rank:?})"),
        AccumulatorKind::Distinct(cap) => format!("Distinct({cap})"),
        // No build of format 3 had funnels: the name must only differ from all others.
        AccumulatorKind::Funnel { within, .. } => format!("Funnel({within})"),
    };
    fnv1a(&format!("StoreKey {{ fixed: {fixed:?}, timed: {timed:?}, argument: {argument:?}, kind: {kind} }}"))
}

//! What a clause costs: how much is kept per user for it.

use std::fmt;

use super::lower::lower;
use super::store::{StoreId, StoreKey, StoreKind};
use crate::leaf::ENTRIES_MAX;
use crate::plan::{Expr, Plan};

/// The cost class of a clause: how much its most expensive aggregate keeps per user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cost {
    /// At most one value: O(1).
    Constant,
    /// At most so many entries: O(k).
    Entries(u64),
    /// Every distinct value: O(distinct).
    Distinct,
    /// Every event that counts now or will: O(window).
    Window,
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cost::Constant => f.write_str("O(1), one value per aggregate and user"),
            Cost::Entries(entries) => write!(f, "O(k), at most {entries} entries per aggregate and user"),
            Cost::Distinct => write!(f, "O(distinct), an entry per distinct value, at most {ENTRIES_MAX} per user"),
            Cost::Window => write!(f, "O(window), an entry per event in the window, at most {ENTRIES_MAX} per user"),
        }
    }
}

/// The cost class of a plan.
pub fn cost(plan: &Plan) -> Cost {
    let mut worst = Cost::Constant;
    let segments = vec![0; plan.segments.len()];
    lower(plan, &segments, &mut |key| {
        worst = worst.max(cost_of(&key));
        StoreId(0)
    });
    worst
}

fn cost_of(key: &StoreKey) -> Cost {
    match (&key.timed, key.kind) {
        (_, StoreKind::Ring(capacity)) => Cost::Entries(capacity.into()),
        (None, StoreKind::Distinct(u64::MAX)) => Cost::Distinct,
        (None, StoreKind::Distinct(cap)) => Cost::Entries(cap),
        (None, _) => Cost::Constant,
        // What has begun is kept up to the cap; what begins later would all be kept.
        (Some(timed), StoreKind::Count(cap) | StoreKind::Distinct(cap)) if cap < u64::MAX && begins_at_once(timed) => {
            Cost::Entries(cap)
        }
        (Some(_), _) => Cost::Window,
    }
}

/// Whether an event counts from its receipt on or never: every condition is `created_at` not before a bound.
fn begins_at_once(timed: &Expr) -> bool {
    match timed {
        Expr::And(items) => items.iter().all(begins_at_once),
        Expr::TimeCompare(compare) => compare.created_at_window().is_some(),
        _ => false,
    }
}

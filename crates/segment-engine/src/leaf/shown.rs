//! What a state can show of the contributions behind its value: no more than it keeps for its own sake.

use std::cmp::Ordering;

use super::{Count, Distinct, Extreme, Funnel, Ring, State, Sum};
use crate::decimal::Decimal;
use crate::time::Timestamp;
use crate::value::Value;

/// Of the contributions that count now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// How many they are, up to the threshold that the state is kept for; of a [`Distinct`], how many values. `None` where
    /// the state knows the best only.
    pub counted: Option<u64>,
    /// Those among them that are kept one by one, the longest-lasting first; of a [`Funnel`] those of a longest chain, by step.
    pub kept: Vec<Kept>,
}

/// One of them. Of those in a window mostly the end is kept, which says when the event happened to whoever knows the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// When the event was created, if that is kept.
    pub created_at: Option<Timestamp>,
    /// Its value, if it has one and that is kept.
    pub value: Option<Value>,
    /// The first instant at which it no longer counts; [`Timestamp::MAX`] for never.
    pub until: Timestamp,
}

impl State {
    /// What counts now, at most `max` of it one by one. `window` is that of a threshold over a [`Ring`]. Call after
    /// [`State::settle`].
    pub fn shown(&self, window: i64, now: Timestamp, max: usize) -> Shown {
        match self {
            State::Ring(ring) => of_ring(ring, window, now, max),
            State::Count(count) => of_count(count, max),
            State::Sum(sum) => of_sum(sum, max),
            State::Extreme(extreme) => of_extreme(extreme),
            State::Distinct(distinct) => of_distinct(distinct, max),
            State::Funnel(funnel) => of_funnel(funnel, max),
        }
    }
}

fn of_ring(ring: &Ring, window: i64, now: Timestamp, max: usize) -> Shown {
    let until = |created_at: i64| Timestamp(created_at.saturating_add(window));
    let counting = ring.newest().iter().take_while(|created_at| until(**created_at) > now);
    let kept = counting.clone().take(max).map(|&created_at| Kept {
        created_at: Some(Timestamp(created_at)),
        value: None,
        until: until(created_at),
    });
    Shown { counted: Some(counting.count() as u64), kept: kept.collect() }
}

fn of_count(count: &Count, max: usize) -> Shown {
    let ends = count.ends().iter().rev().take(max);
    Shown {
        counted: Some(count.value()),
        kept: ends.map(|until| Kept { created_at: None, value: None, until: *until }).collect(),
    }
}

fn of_sum(sum: &Sum, max: usize) -> Shown {
    let kept = sum.ending().into_iter().take(max).map(|(until, &amount)| Kept {
        created_at: None,
        value: Decimal::from_scaled(amount).map(Value::Decimal),
        until,
    });
    Shown { counted: Some(sum.count()), kept: kept.collect() }
}

fn of_extreme(extreme: &Extreme) -> Shown {
    let kept = extreme.best().map(|best| Kept {
        created_at: Some(best.order.created_at()),
        value: Some(best.value.clone()),
        until: best.until,
    });
    Shown { counted: None, kept: kept.into_iter().collect() }
}

fn of_distinct(distinct: &Distinct, max: usize) -> Shown {
    let mut values: Vec<(&Value, Timestamp)> = distinct.ends().collect();
    // The map has no order of its own: the same state is to show the same.
    values.sort_unstable_by(|(a, a_until), (b, b_until)| {
        b_until.cmp(a_until).then_with(|| a.sql_cmp(b).unwrap_or(Ordering::Equal))
    });
    let kept = values.into_iter().take(max);
    Shown {
        counted: Some(distinct.value()),
        kept: kept.map(|(value, until)| Kept { created_at: None, value: Some(value.clone()), until }).collect(),
    }
}

/// The value of each is the number of its step.
fn of_funnel(funnel: &Funnel, max: usize) -> Shown {
    let kept = (1..).zip(funnel.chain()).take(max);
    let kept = kept.map(|(step, entry)| Kept {
        created_at: Some(entry.created_at),
        value: Some(Value::Int(step)),
        until: entry.until,
    });
    Shown { counted: None, kept: kept.collect() }
}

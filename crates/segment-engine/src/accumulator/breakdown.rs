//! The contributions behind an accumulator's value, as far as the value needs them kept.

use std::cmp::Ordering;

use super::{Accumulator, Count, Distinct, Extreme, Funnel, NewestK, Sum};
use crate::decimal::Decimal;
use crate::time::Timestamp;
use crate::value::Value;

/// The contributions that count now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Breakdown {
    /// How many count, up to the threshold that the accumulator is kept for; of a [`Distinct`], how
    /// many values. `None` where the accumulator knows only the best one.
    pub counted: Option<u64>,
    /// Those that are kept one by one, the longest-lasting first; of a [`Funnel`] those of a
    /// longest chain, by step.
    pub contributors: Vec<Contributor>,
}

/// A contribution. In a window mostly only the end is kept; with the window's length it says when
/// the event was created.
#[derive(Clone, Debug, PartialEq)]
pub struct Contributor {
    /// When the event was created, if that is kept.
    pub created_at: Option<Timestamp>,
    /// The contribution's value, if it has one and that is kept.
    pub value: Option<Value>,
    /// The first instant at which it no longer counts; [`Timestamp::MAX`] for never.
    pub until: Timestamp,
}

impl Accumulator {
    /// Returns what counts now, at most `max` contributions one by one. `window` is that of a
    /// threshold over a [`NewestK`]. Call after [`Accumulator::settle`].
    pub fn breakdown(&self, window: i64, now: Timestamp, max: usize) -> Breakdown {
        match self {
            Accumulator::NewestK(newest_k) => of_newest_k(newest_k, window, now, max),
            Accumulator::Count(count) => of_count(count, max),
            Accumulator::Sum(sum) => of_sum(sum, max),
            Accumulator::Extreme(extreme) => of_extreme(extreme),
            Accumulator::Distinct(distinct) => of_distinct(distinct, max),
            Accumulator::Funnel(funnel) => of_funnel(funnel, max),
        }
    }
}

fn of_newest_k(newest_k: &NewestK, window: i64, now: Timestamp, max: usize) -> Breakdown {
    let until = |created_at: i64| Timestamp(created_at.saturating_add(window));
    let counting = newest_k.newest().iter().take_while(|created_at| until(**created_at) > now);
    let contributors = counting.clone().take(max).map(|&created_at| Contributor {
        created_at: Some(Timestamp(created_at)),
        value: None,
        until: until(created_at),
    });
    Breakdown { counted: Some(counting.count() as u64), contributors: contributors.collect() }
}

fn of_count(count: &Count, max: usize) -> Breakdown {
    let ends = count.ends().iter().rev().take(max);
    Breakdown {
        counted: Some(count.value()),
        contributors: ends.map(|until| Contributor { created_at: None, value: None, until: *until }).collect(),
    }
}

fn of_sum(sum: &Sum, max: usize) -> Breakdown {
    let contributors = sum.ending().into_iter().take(max).map(|(until, &amount)| Contributor {
        created_at: None,
        value: Decimal::from_scaled(amount).map(Value::Decimal),
        until,
    });
    Breakdown { counted: Some(sum.count()), contributors: contributors.collect() }
}

fn of_extreme(extreme: &Extreme) -> Breakdown {
    let contributor = extreme.best().map(|best| Contributor {
        created_at: Some(best.order.created_at()),
        value: Some(best.value.clone()),
        until: best.until,
    });
    Breakdown { counted: None, contributors: contributor.into_iter().collect() }
}

fn of_distinct(distinct: &Distinct, max: usize) -> Breakdown {
    let mut values: Vec<(&Value, Timestamp)> = distinct.ends().collect();
    // The map has no order of its own, but equal accumulators must give equal breakdowns.
    values.sort_unstable_by(|(a, a_until), (b, b_until)| {
        b_until.cmp(a_until).then_with(|| a.sql_cmp(b).unwrap_or(Ordering::Equal))
    });
    let contributors = values.into_iter().take(max);
    Breakdown {
        counted: Some(distinct.value()),
        contributors: contributors
            .map(|(value, until)| Contributor { created_at: None, value: Some(value.clone()), until })
            .collect(),
    }
}

/// The value of each contributor is the number of its step.
fn of_funnel(funnel: &Funnel, max: usize) -> Breakdown {
    let contributors = (1..).zip(funnel.chain()).take(max);
    let contributors = contributors.map(|(step, entry)| Contributor {
        created_at: Some(entry.created_at),
        value: Some(Value::Int(step)),
        until: entry.until,
    });
    Breakdown { counted: None, contributors: contributors.collect() }
}

//! Refusing blocks that no machine can have saved: going on with one would overflow a counter, or
//! meet an accumulator of a kind that nobody asked for.

use ethnum::I256;

use super::accumulator_key::{AccumulatorKey, AccumulatorKind};
use super::snapshot::SnapshotError;
use crate::accumulator::{Accumulator, Contribution, ENTRIES_MAX, Funnel, Sum};
use crate::decimal::Decimal;
use crate::time::{Timestamp, calendar};
use crate::value::Value;

/// More than any machine can count. Up to here a counter can grow, and those of two users that
/// merge can be added, without overflow.
const COUNTER_MAX: u64 = i64::MAX.unsigned_abs();

/// Refuses a counter that no machine can have reached.
pub(super) fn check_counter(count: u64) -> Result<(), SnapshotError> {
    if count <= COUNTER_MAX { Ok(()) } else { Err(SnapshotError::Counter) }
}

/// Refuses an instant at which no machine can be.
pub(super) fn check_now(now: Timestamp) -> Result<(), SnapshotError> {
    let is_possible = now == Timestamp::MIN || calendar::within_time(now.0).is_some();
    accept(is_possible, "the machine's instant is outside the range of time")
}

/// Refuses an accumulator that cannot be one of this key.
pub(super) fn check_accumulator(key: &AccumulatorKey, accumulator: &Accumulator) -> Result<(), SnapshotError> {
    if let Accumulator::Sum(sum) = accumulator {
        check_counter(sum.count)?;
    }
    let is_possible = match (key.kind, accumulator) {
        (AccumulatorKind::NewestK(capacity), Accumulator::NewestK(newest_k)) => {
            newest_k.capacity() == capacity && newest_k.newest().len() <= capacity as usize
        }
        (AccumulatorKind::Count(cap), Accumulator::Count(count)) => {
            count.cap == cap && count.for_ever <= cap.min(COUNTER_MAX)
        }
        (AccumulatorKind::Sum, Accumulator::Sum(sum)) => is_possible_sum(sum),
        (AccumulatorKind::Extreme(rank), Accumulator::Extreme(extreme)) => extreme.rank == rank,
        (AccumulatorKind::Distinct(cap), Accumulator::Distinct(distinct)) => distinct.cap == cap,
        (AccumulatorKind::Funnel { steps, within }, Accumulator::Funnel(funnel)) => {
            (funnel.steps, funnel.within) == (steps, within) && is_possible_funnel(funnel)
        }
        _ => false,
    };
    accept(is_possible && accumulator.entries() <= ENTRIES_MAX, "an accumulator is not what its segments keep")
}

/// The count includes the amounts that will end, and the total is no more than so many decimals can
/// give.
fn is_possible_sum(sum: &Sum) -> bool {
    let are_decimals = sum.ending.iter().all(|(_, amount)| Decimal::from_scaled(*amount).is_some());
    // Both factors have fewer than 128 bits.
    let total_max = I256::from(sum.count) * I256::from(Decimal::MAX.scaled());
    sum.ending.len() as u64 <= sum.count && are_decimals && (-total_max..=total_max).contains(&sum.total)
}

/// Events match steps that the funnel has.
fn is_possible_funnel(funnel: &Funnel) -> bool {
    let matches_steps = |steps: i64| steps >> funnel.steps == 0;
    let matches = |contribution: &Contribution| match contribution.value {
        Value::Int(steps) => matches_steps(steps),
        _ => true,
    };
    let complete = funnel.complete.iter().flat_map(|complete| &complete.events);
    funnel.entries.iter().chain(complete).all(|entry| matches_steps(entry.steps.into()))
        && funnel.pending.0.iter().all(|(_, contribution)| matches(contribution))
}

fn accept(is_possible: bool, why_not: &str) -> Result<(), SnapshotError> {
    if is_possible { Ok(()) } else { Err(SnapshotError::Format(why_not.to_owned())) }
}

#[cfg(test)]
mod tests;

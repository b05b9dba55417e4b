//! Accumulators compared with lists of everything that was added to them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::decimal::Decimal;
use crate::event::Position;
use crate::ids::PartitionId;
use crate::value::Value;

const CAP: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Add(Contribution),
    Advance(i64),
    /// From here on contributions go to the other of two accumulators, like that of another user.
    Swap,
    /// Stores the accumulator and loads it again, like a restart.
    Reload,
    Merge,
}

fn contribution(from: i64, until: Option<i64>, value: i64) -> Contribution {
    let order = Order {
        created_at: Timestamp(from),
        processed_at: Timestamp(from),
        position: Position { partition: PartitionId(0), offset: 0 },
    };
    Contribution {
        from: Timestamp(from),
        until: until.map_or(Timestamp::MAX, |length| Timestamp(from + length)),
        value: Value::Int(value),
        order,
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let contributions = (-20..40_i64, proptest::option::weighted(0.9, 1..60_i64), 0..9_i64);
    let step = prop_oneof![
        12 => contributions.prop_map(|(from, until, value)| Step::Add(contribution(from, until, value))),
        4 => (0..15_i64).prop_map(Step::Advance),
        1 => Just(Step::Swap),
        1 => Just(Step::Reload),
        1 => Just(Step::Merge),
    ];
    prop::collection::vec(step, 1..80)
}

fn add(accumulator: &mut Accumulator, contribution: Contribution, now: Timestamp) {
    match accumulator {
        Accumulator::Count(inner) => inner.add(contribution, now),
        Accumulator::Sum(inner) => inner.add(contribution, now),
        Accumulator::Extreme(inner) => inner.add(contribution, now),
        Accumulator::Distinct(inner) => inner.add(contribution, now),
        Accumulator::NewestK(_) | Accumulator::Funnel(_) => unreachable!("each has tests of its own"),
    }
    .unwrap();
}

fn empty() -> [Accumulator; 6] {
    [
        Accumulator::Count(Box::new(Count::new(u64::MAX))),
        Accumulator::Count(Box::new(Count::new(CAP))),
        Accumulator::Sum(Box::default()),
        Accumulator::Extreme(Box::new(Extreme::new(Rank::Greatest))),
        Accumulator::Distinct(Box::new(Distinct::new(u64::MAX))),
        Accumulator::Distinct(Box::new(Distinct::new(CAP))),
    ]
}

/// Compares the accumulators with the list.
fn assert_equal(accumulators: &mut [Accumulator; 6], all: &[Contribution], now: Timestamp) {
    let counting: Vec<i64> = all
        .iter()
        .filter(|contribution| contribution.from <= now && now < contribution.until)
        .map(|contribution| match contribution.value {
            Value::Int(value) => value,
            _ => unreachable!(),
        })
        .collect();
    let distinct = counting.iter().collect::<BTreeSet<_>>().len() as u64;
    for accumulator in accumulators.iter_mut() {
        accumulator.settle(now);
    }
    let [
        Accumulator::Count(count),
        Accumulator::Count(capped),
        Accumulator::Sum(sum),
        Accumulator::Extreme(max),
        Accumulator::Distinct(values),
        Accumulator::Distinct(few),
    ] = accumulators
    else {
        unreachable!()
    };
    assert_eq!(count.value(), counting.len() as u64);
    assert_eq!(capped.value(), (counting.len() as u64).min(CAP));
    let total = (!counting.is_empty()).then(|| Value::Decimal(Decimal::from_int(counting.iter().sum())));
    assert_eq!(sum.total(), total.unwrap_or(Value::Null));
    assert_eq!(max.value(), counting.iter().max().map_or(Value::Null, |max| Value::Int(*max)));
    assert_eq!(values.value(), distinct);
    assert_eq!(few.value(), distinct.min(CAP));
}

fn stored(accumulator: &Accumulator) -> Accumulator {
    postcard::from_bytes(&postcard::to_stdvec(accumulator).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn accumulators_equal_a_list_of_everything(steps in steps()) {
        let (mut accumulators, mut all) = (empty(), Vec::new());
        let (mut others, mut others_all) = (empty(), Vec::new());
        let mut now = Timestamp(0);
        for step in steps {
            match step {
                Step::Add(contribution) => {
                    // An event counts from its receipt on.
                    let contribution = Contribution { from: contribution.from.max(now), ..contribution };
                    if contribution.from < contribution.until {
                        accumulators.iter_mut().for_each(|accumulator| {
                            accumulator.settle(now);
                            add(accumulator, contribution.clone(), now);
                        });
                        all.push(contribution);
                    }
                }
                Step::Advance(by) => now.0 += by,
                Step::Swap => {
                    std::mem::swap(&mut accumulators, &mut others);
                    std::mem::swap(&mut all, &mut others_all);
                }
                Step::Reload => accumulators = accumulators.each_ref().map(stored),
                Step::Merge => {
                    for (accumulator, other) in accumulators.iter_mut().zip(std::mem::replace(&mut others, empty())) {
                        accumulator.merge(other, now).unwrap();
                    }
                    all.append(&mut others_all);
                }
            }
            assert_equal(&mut accumulators, &all, now);
            // No accumulator changes before its `next_change`.
            let next = accumulators.iter().map(Accumulator::next_change).min().unwrap();
            if next < Timestamp(now.0 + 100) {
                assert!(next > now);
                assert_equal(&mut accumulators.clone(), &all, next);
            } else {
                assert_equal(&mut accumulators.clone(), &all, Timestamp(now.0 + 99));
            }
        }
    }
}

/// At the bound an event costs the same as below it: the test takes minutes if each loops over all
/// entries.
#[test]
fn a_full_accumulator_takes_events_as_fast_as_any() {
    let mut distinct = Distinct::new(u64::MAX);
    let mut sum = Sum::default();
    let (mut refused, window) = (0, ENTRIES_MAX as i64 + 10);
    for n in 0..250_000 {
        // Every third is late.
        let created_at = if n % 3 == 0 { n - (n * 7919) % (window / 2) } else { n };
        let now = Timestamp(n);
        let new = Contribution { until: Timestamp(created_at + window), ..contribution(n, None, n % 150_000) };
        distinct.settle(now);
        sum.settle(now);
        refused += usize::from(distinct.add(new.clone(), now).is_err());
        refused += usize::from(sum.add(new, now).is_err());
        assert!(distinct.next_change() > now && sum.next_change() > now);
    }
    assert!(distinct.entries() > ENTRIES_MAX * 3 / 4, "{} values", distinct.entries());
    assert!(sum.entries() > ENTRIES_MAX * 3 / 4, "{} amounts", sum.entries());
    assert!(distinct.entries() <= ENTRIES_MAX && sum.entries() <= ENTRIES_MAX, "{refused} refused");
}

/// A value that is added again and again has one entry, however often its end is put off.
#[test]
fn repeated_values_take_no_more_memory() {
    let mut distinct = Distinct::new(u64::MAX);
    let mut largest = 0;
    for n in 0..10_000 {
        distinct.settle(Timestamp(n));
        distinct.add(contribution(n, Some(500), n % 20), Timestamp(n)).unwrap();
        largest = largest.max(distinct.heap_bytes());
        assert_eq!(distinct.value(), (n as u64 + 1).min(20));
        assert_eq!(distinct.next_change(), Timestamp((n - 19).max(0) + 500));
    }
    assert!(largest < 4_000, "{largest} bytes");
}

//! States against lists of everything they were given.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::decimal::Decimal;
use crate::event::Position;
use crate::value::Value;

const CAP: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Add(Contribution),
    Advance(i64),
    /// The rest goes to the other of two states, as that of another user.
    Swap,
    /// As after a restart.
    Store,
    Merge,
}

fn contribution(from: i64, until: Option<i64>, value: i64) -> Contribution {
    let order = Order {
        created_at: Timestamp(from),
        processed_at: Timestamp(from),
        position: Position { partition: 0, offset: 0 },
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
        1 => Just(Step::Store),
        1 => Just(Step::Merge),
    ];
    prop::collection::vec(step, 1..80)
}

fn add(state: &mut State, contribution: Contribution, now: Timestamp) {
    match state {
        State::Count(state) => state.add(contribution, now),
        State::Sum(state) => state.add(contribution, now),
        State::Extreme(state) => state.add(contribution, now),
        State::Distinct(state) => state.add(contribution, now),
        State::Ring(_) | State::Funnel(_) => unreachable!("each has tests of its own"),
    }
    .unwrap();
}

fn empty() -> [State; 6] {
    [
        State::Count(Count::new(u64::MAX)),
        State::Count(Count::new(CAP)),
        State::Sum(Sum::default()),
        State::Extreme(Extreme::new(Rank::Greatest)),
        State::Distinct(Distinct::new(u64::MAX)),
        State::Distinct(Distinct::new(CAP)),
    ]
}

/// What the states say, and what the list says.
fn assert_equal(states: &mut [State; 6], all: &[Contribution], now: Timestamp) {
    let counting: Vec<i64> = all
        .iter()
        .filter(|contribution| contribution.from <= now && now < contribution.until)
        .map(|contribution| match contribution.value {
            Value::Int(value) => value,
            _ => unreachable!(),
        })
        .collect();
    let distinct = counting.iter().collect::<BTreeSet<_>>().len() as u64;
    for state in states.iter_mut() {
        state.settle(now);
    }
    let [
        State::Count(count),
        State::Count(capped),
        State::Sum(sum),
        State::Extreme(max),
        State::Distinct(values),
        State::Distinct(few),
    ] = states
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

fn stored(state: &State) -> State {
    postcard::from_bytes(&postcard::to_stdvec(state).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn states_count_what_a_list_of_everything_does(steps in steps()) {
        let (mut states, mut all) = (empty(), Vec::new());
        let (mut others, mut others_all) = (empty(), Vec::new());
        let mut now = Timestamp(0);
        for step in steps {
            match step {
                Step::Add(contribution) => {
                    // An event counts from its receipt on.
                    let contribution = Contribution { from: contribution.from.max(now), ..contribution };
                    if contribution.from < contribution.until {
                        states.iter_mut().for_each(|state| {
                            state.settle(now);
                            add(state, contribution.clone(), now);
                        });
                        all.push(contribution);
                    }
                }
                Step::Advance(by) => now.0 += by,
                Step::Swap => {
                    std::mem::swap(&mut states, &mut others);
                    std::mem::swap(&mut all, &mut others_all);
                }
                Step::Store => states = states.each_ref().map(stored),
                Step::Merge => {
                    for (state, other) in states.iter_mut().zip(std::mem::replace(&mut others, empty())) {
                        state.merge(other, now).unwrap();
                    }
                    all.append(&mut others_all);
                }
            }
            assert_equal(&mut states, &all, now);
            // No state says that it changes later than it does.
            let next = states.iter().map(State::next_change).min().unwrap();
            if next < Timestamp(now.0 + 100) {
                assert!(next > now);
                assert_equal(&mut states.clone(), &all, next);
            } else {
                assert_equal(&mut states.clone(), &all, Timestamp(now.0 + 99));
            }
        }
    }
}

/// At the bound an event costs what it costs below it: this takes minutes if each looks at all entries.
#[test]
fn a_full_state_takes_events_as_fast_as_any() {
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

/// An address that is seen again and again has one entry, however often its end is put off.
#[test]
fn values_that_come_again_take_no_more_room() {
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

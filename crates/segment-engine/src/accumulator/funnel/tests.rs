//! Funnels compared with their definition by brute force: every chain of the events that count is
//! tried.

use proptest::prelude::*;

use super::*;
use crate::accumulator::Order;

/// An event of `steps` (bits) that counts from `from` until `until`.
#[derive(Clone, Copy, Debug)]
struct Fact {
    created_at: i64,
    steps: i64,
    from: i64,
    until: i64,
}

impl Fact {
    /// Counts from its receipt on, for ever.
    fn kept(created_at: i64, steps: i64) -> Fact {
        Fact { created_at, steps, from: 0, until: i64::MAX }
    }

    fn contribution(self, now: i64) -> Contribution {
        let order = Order::created(Timestamp(self.created_at));
        let value = if self.steps == 0 { Value::Null } else { Value::Int(self.steps) };
        Contribution { from: Timestamp(self.from.max(now)), until: Timestamp(self.until), value, order }
    }
}

/// Returns the length of the longest chain from `step` on, of events created after `after` and up
/// to `up_to`.
fn longest(facts: &[&Fact], step: u8, steps: u8, after: i64, up_to: i64) -> u8 {
    let next = facts.iter().filter(|fact| {
        step < steps && fact.steps >> step & 1 == 1 && fact.created_at > after && fact.created_at <= up_to
    });
    next.map(|fact| 1 + longest(facts, step + 1, steps, fact.created_at, up_to)).max().unwrap_or(0)
}

/// Returns the value by the definition.
fn value(facts: &[Fact], steps: u8, within: i64, now: i64) -> u8 {
    let counting: Vec<&Fact> = facts.iter().filter(|fact| fact.from <= now && now < fact.until).collect();
    let starts = counting.iter().map(|fact| fact.created_at);
    starts.map(|start| longest(&counting, 0, steps, start - 1, start + within)).max().unwrap_or(0)
}

fn funnel_of(facts: &[Fact], steps: u8, within: i64, now: i64) -> Funnel {
    let mut funnel = Funnel::new(steps, within);
    for fact in facts.iter().filter(|fact| fact.until > now) {
        funnel.add(fact.contribution(now), Timestamp(now)).expect("they are few");
    }
    funnel
}

fn value_at(funnel: &mut Funnel, now: i64) -> u8 {
    funnel.settle(Timestamp(now));
    funnel.value()
}

/// When each was created, and the steps that it matches.
type Events = &'static [(i64, i64)];

const A: i64 = 1;
const B: i64 = 2;
const C: i64 = 4;

#[test]
fn a_chain_has_one_event_per_step_in_order_and_in_time() {
    let cases: [(&str, Events, u8); 12] = [
        ("nothing", &[], 0),
        ("only later steps", &[(1, B), (2, C)], 0),
        ("in order", &[(1, A), (2, B), (3, C)], 3),
        ("in the wrong order", &[(1, B), (2, A)], 1),
        ("a step is missing", &[(1, A), (2, C)], 1),
        ("one event is one step", &[(1, A | B | C)], 1),
        ("two events of one instant are not two steps", &[(1, A), (1, B)], 1),
        ("one instant between others is one step", &[(1, A), (2, B), (2, C), (3, C)], 3),
        ("the last exactly at the end", &[(0, A), (5, B), (10, C)], 3),
        ("the last after the end", &[(0, A), (5, B), (11, C)], 2),
        ("a later start is early enough", &[(0, A), (1, A), (5, B), (11, C)], 3),
        ("a start after the middle is too late", &[(0, A), (5, B), (6, A), (11, C)], 2),
    ];
    for (what, events, steps) in cases {
        let facts: Vec<Fact> = events.iter().map(|(created_at, steps)| Fact::kept(*created_at, *steps)).collect();
        assert_eq!(value(&facts, 3, 10, 100), steps, "{what}, by the definition");
        assert_eq!(value_at(&mut funnel_of(&facts, 3, 10, 100), 100), steps, "{what}");
    }
}

#[test]
fn a_funnel_that_is_complete_for_ever_keeps_one_event_per_step() {
    let facts = [(1, A), (1, B), (2, A), (3, B), (9, A)].map(|(created_at, steps)| Fact::kept(created_at, steps));
    let mut funnel = funnel_of(&facts, 2, 10, 100);
    assert_eq!((value_at(&mut funnel, 100), funnel.entries()), (2, 0));
    assert_eq!(funnel.next_change(), Timestamp::MAX);
    let events: Vec<i64> = funnel.chain().iter().map(|entry| entry.created_at.0).collect();
    assert_eq!(events, [2, 3]);
    let more = Fact::kept(50, A).contribution(100);
    assert_eq!((funnel.add(more, Timestamp(100)), funnel.entries()), (Ok(()), 0));
}

#[test]
fn in_a_window_events_that_end_before_the_chain_are_dropped_and_newer_ones_stay() {
    let windowed = |created_at, steps| Fact { created_at, steps, from: 0, until: created_at + 30 };
    let facts = [windowed(1, A), windowed(2, A), windowed(3, B), windowed(4, A)];
    let mut funnel = funnel_of(&facts, 2, 10, 10);
    // The chain of 2 and 3 lasts until 32; the A of 1 ends before that.
    assert_eq!((value_at(&mut funnel, 10), funnel.entries(), funnel.next_change()), (2, 2, Timestamp(32)));
    assert_eq!((value_at(&mut funnel, 31), value_at(&mut funnel, 32), value_at(&mut funnel, 34)), (2, 1, 0));
}

#[test]
fn the_bound_applies_to_the_entries_that_are_needed() {
    let mut funnel = Funnel::new(2, i64::MAX);
    let now = Timestamp(1_000_000);
    let event = |number: usize, steps| Fact::kept(number as i64, steps).contribution(now.0);
    for number in 1..=ENTRIES_MAX {
        assert_eq!(funnel.add(event(number, A), now), Ok(()));
    }
    assert_eq!(funnel.add(event(ENTRIES_MAX + 1, A), now), Err(CapacityExceeded { until: Timestamp::MAX }));
    assert_eq!((funnel.entries(), value_at(&mut funnel, now.0)), (ENTRIES_MAX, 1));
    // If two accumulators have too many entries together, the newest stay, and the merge reports
    // it.
    let mut other = Funnel::new(2, i64::MAX);
    assert_eq!(other.add(event(ENTRIES_MAX + 2, B), now), Ok(()));
    assert_eq!(funnel.clone().merge(other, now), Ok(()), "together they are complete");
    let mut other = Funnel::new(2, i64::MAX);
    assert_eq!(other.add(event(0, B), now), Ok(()));
    assert_eq!(funnel.merge(other, now), Err(CapacityExceeded { until: Timestamp::MAX }));
    assert_eq!((funnel.entries(), value_at(&mut funnel, now.0)), (ENTRIES_MAX, 1));
}

/// The checkpoints in `tests/checkpoints` are older than funnels, so this test has their layout.
/// Numbers are postcard's varints, signed ones zigzag.
#[test]
fn the_layout_does_not_change() {
    let windowed = |created_at, steps, from| Fact { created_at, steps, from, until: created_at + 30 };
    let facts = [windowed(1, A, 0), windowed(2, B, 0), windowed(3, A | C, 0), windowed(5, C, 9)];
    let mut funnel = funnel_of(&facts, 2, 10, 4);
    funnel.settle(Timestamp(4));
    let stored: [&[u8]; 9] = [
        // The variant, steps, within.
        &[5, 2, 20],
        // Two entries that outlast the chain: created at 2, until 32, of B; at 3, until 33, of A
        // and C.
        &[2, 4, 64, 2, 6, 66, 5],
        // One that is pending: from 9 until 35,
        &[1, 18, 70],
        // as a whole number of C,
        &[2, 8],
        // created at 5, processed then, at offset 0 of partition 0.
        &[10, 10, 0, 0],
        // A complete chain until 31,
        &[1, 62],
        // of two events:
        &[2],
        &[2, 62, 1],
        &[4, 64, 2],
    ];
    let accumulator = crate::accumulator::Accumulator::Funnel(Box::new(funnel));
    assert_eq!(postcard::to_stdvec(&accumulator).unwrap(), stored.concat());
}

/// Small numbers, so that instants coincide. Windows of `created_at`, and spans of all kinds.
fn fact() -> impl Strategy<Value = Fact> {
    let span = prop_oneof![
        2 => Just(None),
        3 => (Just(0_i64), 5..25_i64).prop_map(Some),
        1 => (0..15_i64, 5..25_i64).prop_map(Some),
    ];
    (0..20_i64, 0..8_i64, span, any::<bool>(), 0..30_i64).prop_map(|(created_at, steps, span, loose, at)| match span {
        None => Fact::kept(created_at, steps),
        Some((_, length)) if loose => Fact { created_at, steps, from: at / 2, until: at / 2 + length },
        Some((delay, length)) => {
            Fact { created_at, steps, from: created_at + delay, until: created_at + delay + length }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Events arrive in any order of creation, for two users who merge at some time, with a
    /// checkpoint on the way. At every instant the value is that of the definition, and it changes
    /// only at `next_change`.
    #[test]
    fn a_funnel_equals_the_definition(
        facts in prop::collection::vec((fact(), 0..3_i64, any::<bool>()), 0..10),
        steps in 1..4_u8,
        within in 1..12_i64,
        merged_at in 0..12_usize,
        reads in any::<bool>(),
    ) {
        let mut accumulators = [Funnel::new(steps, within), Funnel::new(steps, within)];
        let (mut known, mut now): ([Vec<Fact>; 2], i64) = Default::default();
        for (number, (fact, later, second)) in facts.into_iter().enumerate() {
            now += later;
            if number == merged_at {
                let [first, second] = &mut accumulators;
                let second = postcard::from_bytes(&postcard::to_stdvec(second).unwrap()).unwrap();
                prop_assert_eq!(first.merge(second, Timestamp(now)), Ok(()));
                let moved = std::mem::take(&mut known[1]);
                known[0].extend(moved);
                accumulators[1] = Funnel::new(steps, within);
            }
            let user = usize::from(second && number < merged_at);
            let fact = Fact { from: fact.from.max(now), ..fact };
            if fact.from < fact.until {
                prop_assert_eq!(accumulators[user].add(fact.contribution(now), Timestamp(now)), Ok(()));
                known[user].push(fact);
            }
            if reads {
                prop_assert_eq!(value_at(&mut accumulators[user], now), value(&known[user], steps, within, now));
            }
        }
        for (mut accumulator, known) in accumulators.into_iter().zip(known) {
            let mut expected = value_at(&mut accumulator, now);
            let mut next = accumulator.next_change();
            for at in now..60 {
                if Timestamp(at) >= next {
                    expected = value_at(&mut accumulator, at);
                    next = accumulator.next_change();
                    prop_assert!(next > Timestamp(at));
                }
                prop_assert_eq!(expected, value(&known, steps, within, at), "at {} of {:?}", at, accumulator);
                let mut read = accumulator.clone();
                prop_assert_eq!(value_at(&mut read, at), expected, "read at {}", at);
                let chain = read.chain();
                prop_assert_eq!(chain.len(), usize::from(expected));
                prop_assert!(chain.iter().enumerate().all(|(step, entry)| entry.matches(step) && entry.until.0 > at));
                prop_assert!(chain.windows(2).all(|pair| pair[0].created_at < pair[1].created_at));
            }
        }
    }
}

/// A single pass over all events, oldest first, as `Scan` makes it over the entries of one block.
fn by_one_pass(facts: &[Fact], steps: u8, within: i64) -> u8 {
    let mut entries: Vec<Entry> = facts.iter().filter_map(|fact| entry(&fact.contribution(0))).collect();
    entries.sort_by_key(Entry::key);
    Scan::over(&entries, steps, within).length()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Too many for brute force: hundreds of events in many blocks, late, of equal instants, ending
    /// at different times. After each event the value is that of one pass over what counts.
    #[test]
    fn a_late_event_among_many_gives_the_value_of_one_pass(
        facts in prop::collection::vec((0..400_i64, 0..16_i64, 0..3_i64), 1..120),
        steps in 1..5_u8,
        within in 1..80_i64,
        rare in 0..4_u8,
    ) {
        let mut funnel = Funnel::new(steps, within);
        let mut known: Vec<Fact> = Vec::new();
        for (now, (created_at, mask, longer)) in (0..).zip(facts) {
            // One step is rare, so that chains stay unfinished.
            let mask = if created_at % 16 == 0 { mask } else { mask & !(1 << rare) };
            let fact = Fact { created_at, steps: mask, from: now, until: 40 + created_at / 2 + longer * 9 };
            if fact.until > now {
                prop_assert_eq!(funnel.add(fact.contribution(now), Timestamp(now)), Ok(()));
                known.push(fact);
            }
            let counting: Vec<Fact> = known.iter().copied().filter(|fact| now < fact.until).collect();
            prop_assert_eq!(value_at(&mut funnel, now), by_one_pass(&counting, steps, within), "at {}", now);
            if now % 8 == 0 {
                let chain = funnel.chain();
                prop_assert_eq!(chain.len(), usize::from(funnel.value()));
                prop_assert!(chain.windows(2).all(|pair| pair[0].created_at < pair[1].created_at));
                prop_assert!(chain.iter().all(|entry| entry.until.0 > now));
                prop_assert!(chain.last().is_none_or(|last| last.created_at.0 - chain[0].created_at.0 <= within));
            }
        }
    }
}

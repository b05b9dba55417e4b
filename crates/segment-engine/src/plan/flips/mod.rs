//! The exact instants at which comparisons with now change, by inverting the bound step by step.
//!
//! Each step of a bound is a function of microseconds that is non-decreasing, or non-decreasing on
//! each of a few pieces. With months the pieces are days, because the clamp to the end of the month
//! steps back at midnight; with a zone they are the stretches between two changes of offset. So the
//! times that a step takes to `v` or later are a small set of intervals in closed form. Going
//! through the steps backwards gives the instants of now.

use super::instants::InstantSet;
use super::now::{Motion, TimeCompare};
use super::{CompareOp, NowExpr};
use crate::time::calendar::{self, DAY, MINUTE};
use crate::time::{Field, Interval, OFFSET_MICROS_MAX, Timestamp, Unit, Zone};
use crate::value::{Type, Value};

#[cfg(test)]
mod tests;

/// How many stretches of a field [`TimeCompare::next_flip`] looks at before it returns an instant
/// at which to check again. The hours of a day, the days of a month and the minutes of an hour fit
/// in.
pub const FIELD_STEPS_MAX: usize = 64;

impl TimeCompare {
    /// Returns exactly the instants of now at which the comparison is TRUE, given the value of `x`.
    ///
    /// # Panics
    /// If the bound extracts a field other than the epoch: such a comparison is true again and
    /// again for ever. The compiler allows it only outside aggregates, where
    /// [`next_flip`](TimeCompare::next_flip) is called.
    pub fn true_set(&self, x: &Value) -> InstantSet {
        let field = self.bound.field();
        let Some((not_less, greater)) = edges(field, x) else { return InstantSet::empty() };
        assert!(matches!(field, None | Some(Field::Epoch)), "{field:?} of now has no finite set of instants");
        let reaches = |value| self.bound.instants_from(value);
        let set = match self.op {
            CompareOp::LtEq => reaches(not_less),
            CompareOp::Lt => reaches(greater),
            CompareOp::Gt => reaches(not_less).complement(),
            CompareOp::GtEq => reaches(greater).complement(),
            CompareOp::Eq => reaches(not_less).intersect(&reaches(greater).complement()),
            CompareOp::NotEq => reaches(greater).union(&reaches(not_less).complement()),
        };
        if self.bound.stays_in_time() { set } else { set.intersect(&self.bound.instants_in_time()) }
    }

    /// Returns the instants at which the truth of the comparison (TRUE, FALSE or NULL) may change.
    pub fn edges(&self, x: &Value) -> Vec<Timestamp> {
        let true_set = self.true_set(x);
        let in_time = if self.bound.stays_in_time() { InstantSet::all() } else { self.bound.instants_in_time() };
        let intervals = true_set.intervals().iter().chain(in_time.intervals());
        intervals.flat_map(|(start, end)| [*start, *end]).collect()
    }

    /// Returns the first instant after `now` at which [`truth`](TimeCompare::truth) differs from
    /// that at `now`, given the value of `x`; [`Timestamp::MAX`] if it never does.
    ///
    /// If the bound extracts a field, it may return an earlier instant at which to call it again.
    pub fn next_flip(&self, x: &Value, now: Timestamp) -> Timestamp {
        match self.bound.field() {
            None | Some(Field::Epoch) if !self.bound.stays_in_time() => self.next_edge(x, now),
            None | Some(Field::Epoch) => {
                self.next_flip_of_steady(x, now).unwrap_or_else(|| self.true_set(x).next_change(now))
            }
            Some(field) => self.next_flip_of_field(field, x, now),
        }
    }

    fn next_edge(&self, x: &Value, now: Timestamp) -> Timestamp {
        let truth = self.truth(x, now);
        let flips = self.edges(x).into_iter().filter(|edge| *edge > now && self.truth(x, *edge) != truth);
        flips.min().unwrap_or(Timestamp::MAX)
    }

    /// [`next_flip`](TimeCompare::next_flip) for a bound that never steps back. It builds no set,
    /// because it runs at every evaluation.
    fn next_flip_of_steady(&self, x: &Value, now: Timestamp) -> Option<Timestamp> {
        let (not_less, greater) = edges(self.bound.field(), x)?;
        let reaches = |value| self.bound.first_reaching(value);
        let (first, last) = match self.op {
            CompareOp::LtEq | CompareOp::Gt => (reaches(not_less)?, Timestamp::MAX),
            CompareOp::Lt | CompareOp::GtEq => (reaches(greater)?, Timestamp::MAX),
            CompareOp::Eq | CompareOp::NotEq => match (reaches(not_less)?, reaches(greater)?) {
                // The bound never has this value.
                (first, last) if first == last => return Some(Timestamp::MAX),
                span => span,
            },
        };
        Some(if now < first {
            first
        } else if now < last {
            last
        } else {
            Timestamp::MAX
        })
    }

    fn next_flip_of_field(&self, field: Field, x: &Value, now: Timestamp) -> Timestamp {
        let truth = self.truth(x, now);
        let Some(edges) = edges(Some(field), x) else { return Timestamp::MAX };
        let mut instant = now;
        for _ in 0..FIELD_STEPS_MAX {
            let Some(micros) = self.bound.micros(instant) else {
                return self.bound.instants_in_time().next_change(instant);
            };
            let Some((start, end)) = stretch(field, edges, micros) else { return Timestamp::MAX };
            let same = self.bound.instants_of(&InstantSet::between(Timestamp(start), Timestamp(end)));
            instant = same.next_change(instant);
            if instant == Timestamp::MAX || self.truth(x, instant) != truth {
                return instant;
            }
        }
        instant
    }
}

impl NowExpr {
    /// Returns the instants at which the bound is at `value` or later.
    fn instants_from(&self, value: i128) -> InstantSet {
        match self.first_reaching(value) {
            Some(first) => InstantSet::between(first, Timestamp::MAX),
            None => {
                let value = Timestamp(calendar::saturate(value));
                self.instants_of(&InstantSet::between(value, Timestamp::MAX))
            }
        }
    }

    /// Returns the first instant at which the bound is at `value` or later, if it never steps back
    /// from there.
    fn first_reaching(&self, value: i128) -> Option<Timestamp> {
        fn invert<'a>(mut motions: impl Iterator<Item = Motion<'a>>, value: Timestamp) -> Option<Timestamp> {
            match motions.next() {
                None => Some(value),
                Some(motion) => motion.first_reaching(invert(motions, value)?),
            }
        }
        invert(self.motions(), Timestamp(calendar::saturate(value)))
    }

    /// Returns the instants at which the bound lies in the set.
    fn instants_of(&self, values: &InstantSet) -> InstantSet {
        preimage(self.motions(), values)
    }

    /// Returns the instants at which no step leaves the range of time.
    fn instants_in_time(&self) -> InstantSet {
        let in_time = InstantSet::between(Timestamp(calendar::EARLIEST), Timestamp(calendar::LATEST + 1));
        let mut instants = InstantSet::all();
        for (place, _) in self.motions().enumerate().filter(|(_, motion)| motion.can_leave_time()) {
            instants = instants.intersect(&preimage(self.motions().take(place + 1), &in_time));
        }
        instants
    }
}

/// Returns the times that the steps, applied in order, take into the set.
fn preimage<'a>(mut motions: impl Iterator<Item = Motion<'a>>, values: &InstantSet) -> InstantSet {
    fn invert<'a>(motions: &mut dyn Iterator<Item = Motion<'a>>, values: &InstantSet) -> InstantSet {
        match motions.next() {
            None => values.clone(),
            Some(motion) => motion.preimage(&invert(motions, values)),
        }
    }
    invert(&mut motions, values)
}

impl Motion<'_> {
    /// Returns the times that the step takes into the set.
    fn preimage(self, values: &InstantSet) -> InstantSet {
        let mut pieces = Vec::with_capacity(values.intervals().len());
        for &(start, end) in values.intervals() {
            let mut reached = self.times_from(start);
            if end < Timestamp::MAX {
                reached = reached.intersect(&self.times_from(end).complement());
            }
            pieces.extend_from_slice(reached.intervals());
        }
        InstantSet::from_pieces(pieces)
    }

    /// Returns the times that the step takes to `value` or later.
    fn times_from(self, value: Timestamp) -> InstantSet {
        if let Some(first) = self.first_reaching(value) {
            return InstantSet::between(first, Timestamp::MAX);
        }
        match self {
            Motion::Months(interval) => times_from_months(interval, value.0),
            Motion::ToLocal(zone) => times_from_local(zone, value.0),
            Motion::ToInstant(zone) => times_from_instant(zone, value.0),
            Motion::Shift(_) | Motion::Floor(_) => unreachable!("these never step back"),
        }
    }

    /// Returns the first time that the step takes to `value` or later; `None` for a step that can
    /// step back.
    fn first_reaching(self, value: Timestamp) -> Option<Timestamp> {
        // The ends of the range stand for "always" and "never".
        if value == Timestamp::MIN || value == Timestamp::MAX {
            return Some(value);
        }
        let first = match self {
            Motion::Shift(length) => calendar::saturate(i128::from(value.0) - length),
            Motion::Floor(unit) if unit.floor(value.0) == Some(value.0) => value.0,
            Motion::Floor(unit) => unit.next(value.0).unwrap_or(i64::MAX),
            Motion::Months(_) | Motion::ToLocal(_) | Motion::ToInstant(_) => return None,
        };
        Some(Timestamp(first))
    }
}

/// Returns the times that the interval, which has months, takes to `value` or later.
///
/// The day of the sum is non-decreasing in the day, and within a day the sum follows the time of
/// day. The months take no day, one day, or up to four clamped days to the day of `value`: these
/// are included from its time of day to midnight. Every later day is included as a whole.
fn times_from_months(interval: Interval, value: i64) -> InstantSet {
    // Subtracting months and adding them again moves a day by at most the 3 days of a clamp.
    const DAYS_BEFORE: i64 = 4;
    const DAYS_AFTER: i64 = 8;
    let months = i64::from(interval.months);
    let (target, time_of_day) = calendar::split(calendar::saturate(i128::from(value) - interval.fixed_micros()));
    let around = calendar::add_months(target, -months);
    let midnight = |day: i64| Timestamp(calendar::saturate(i128::from(day) * i128::from(DAY)));
    let mut pieces = Vec::with_capacity(4);
    let mut day = around - DAYS_BEFORE;
    while day < around + DAYS_AFTER {
        let reached = calendar::add_months(day, months);
        if reached > target {
            break;
        }
        if reached == target {
            let start = i128::from(day) * i128::from(DAY) + i128::from(time_of_day);
            pieces.push((Timestamp(calendar::saturate(start)), midnight(day + 1)));
        }
        day += 1;
    }
    pieces.push((midnight(day), Timestamp::MAX));
    InstantSet::from_pieces(pieces)
}

/// Returns the instants at which the zone's local time is `value` or later.
fn times_from_local(zone: &Zone, value: i64) -> InstantSet {
    // Local times of instants further away are all on the same side of `value`.
    let from = value.saturating_sub(OFFSET_MICROS_MAX);
    let until = value.saturating_add(OFFSET_MICROS_MAX);
    let offsets = zone.transitions(from, until).into_iter().map(|transition| (transition.at, transition.after));
    pieces_of_offsets(zone.offset_at(from), offsets, |offset| value.saturating_sub(offset))
}

/// Returns the local times that the zone takes to the instant `value` or later.
fn times_from_instant(zone: &Zone, value: i64) -> InstantSet {
    // Local times near `value` are as near as above, and so is the change whose offset they are
    // read with.
    let from = value.saturating_sub(2 * OFFSET_MICROS_MAX);
    let until = value.saturating_add(2 * OFFSET_MICROS_MAX);
    let offsets = zone.transitions(from, until).into_iter().map(|transition| (transition.local(), transition.after));
    pieces_of_offsets(zone.offset_at(from), offsets, |offset| value.saturating_add(offset))
}

/// Returns the union, over the stretches with one offset, of their part from `start(offset)` on.
/// `changes` has the start of each further stretch and its offset.
fn pieces_of_offsets(
    first_offset: i64,
    changes: impl Iterator<Item = (i64, i64)>,
    start: impl Fn(i64) -> i64,
) -> InstantSet {
    let mut pieces = Vec::with_capacity(2);
    let (mut stretch, mut offset) = (i64::MIN, first_offset);
    for (next, next_offset) in changes {
        pieces.push((Timestamp(stretch.max(start(offset))), Timestamp(next)));
        (stretch, offset) = (next, next_offset);
    }
    pieces.push((Timestamp(stretch.max(start(offset))), Timestamp::MAX));
    InstantSet::from_pieces(pieces)
}

/// Returns the least microseconds of the bound that are not less than `x`, and the least that are
/// greater. `None` if `x` is NULL.
///
/// For fields with fractions of a second, these are microseconds of the epoch or of the minute.
fn edges(field: Option<Field>, x: &Value) -> Option<(i128, i128)> {
    let Some(field) = field else {
        let instant = x.instant()?;
        return Some((instant, instant + 1));
    };
    let number = match x.cast(Type::Decimal) {
        Value::Decimal(number) => number.scaled(),
        _ => return None,
    };
    // How many 10⁻⁹ units of the field a microsecond has.
    let divisor = match field {
        Field::Microsecond => 1_000_000_000,
        Field::Millisecond => 1_000_000,
        _ => 1_000,
    };
    let floor = number.div_euclid(divisor);
    let is_whole = number.rem_euclid(divisor) == 0;
    Some((if is_whole { floor } else { floor + 1 }, floor + 1))
}

/// Returns the stretch `[start, end)` around `micros` in which the field's comparison with `x` does
/// not change; `None` at the ends of the range.
fn stretch(field: Field, edges: (i128, i128), micros: i64) -> Option<(i64, i64)> {
    if let Some(unit) = field.constant_within() {
        return Some((unit.floor(micros)?, unit.next(micros)?));
    }
    let minute = Unit::Minute.floor(micros)?;
    let mut bounds = [0, 0, 0, i128::from(MINUTE)];
    bounds[1] = edges.0.clamp(0, bounds[3]);
    bounds[2] = edges.1.clamp(0, bounds[3]);
    let within = i128::from(micros - minute);
    let after = bounds.partition_point(|bound| *bound <= within);
    let at = |bound: i128| minute.checked_add(bound as i64);
    Some((at(bounds[after - 1])?, at(bounds[after])?))
}

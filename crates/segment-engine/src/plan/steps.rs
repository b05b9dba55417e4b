//! Building a bound step by step, so that equal bounds become equal values.

use super::{NowExpr, NowStep};
use crate::time::Interval;
use crate::value::Type;

impl NowExpr {
    /// Adds a step. Steps without effect are left out. Successive intervals become one where that
    /// is the same: an interval adds its months first, so one without months can join the one
    /// before it.
    pub fn push(&mut self, step: NowStep) {
        let ty = self.value_type();
        let step = match (step, ty) {
            (NowStep::ToTimestamp, Type::Timestamp)
            | (NowStep::ToLocal, Type::LocalTimestamp)
            | (NowStep::ToDate, Type::Date) => return,
            // A date or timestamp that is made local and then a timestamp again, both in UTC, does
            // not change.
            (NowStep::ToTimestamp, _) if self.steps.last() == Some(&NowStep::ToLocal) => {
                self.steps.pop();
                return self.push(NowStep::ToTimestamp);
            }
            (NowStep::Trunc(unit), Type::Date) => {
                self.steps.push(NowStep::ToTimestamp);
                NowStep::Trunc(unit)
            }
            (NowStep::Add(interval), _) => return self.add(interval),
            (step, _) => step,
        };
        self.steps.push(step);
    }

    fn add(&mut self, interval: Interval) {
        let joined = match self.steps.last() {
            Some(NowStep::Add(before)) if interval.months == 0 => before.checked_add(interval),
            _ => None,
        };
        if joined.is_some() {
            self.steps.pop();
        }
        match justified(joined.unwrap_or(interval)) {
            // With a date, even an empty interval gives a local time.
            empty if empty == Interval::default() && self.value_type() == Type::Date => {
                self.steps.push(NowStep::ToLocal)
            }
            empty if empty == Interval::default() => {}
            interval => self.steps.push(NowStep::Add(interval)),
        }
    }
}

/// Returns the interval with whole days of 24 hours taken out of the microseconds. No step is in a
/// zone, so every day has 24 hours.
fn justified(interval: Interval) -> Interval {
    match Interval::from_difference(interval.fixed_micros()) {
        Some(fixed) => Interval { months: interval.months, ..fixed },
        None => interval,
    }
}

//! Building a bound step by step, so that equal bounds become equal values.

use super::{NowExpr, NowStep};
use crate::time::Interval;
use crate::value::Type;

impl NowExpr {
    /// Adds a step. Steps without effect are left out, and intervals that follow each other are added up where that is
    /// the same: an interval adds its months first, so one without months can join the one before it.
    pub fn push(&mut self, step: NowStep) {
        let ty = self.value_type();
        let step = match (step, ty) {
            (NowStep::ToTimestamp, Type::Timestamp)
            | (NowStep::ToLocal, Type::LocalTimestamp)
            | (NowStep::ToDate, Type::Date) => return,
            (NowStep::Trunc(unit), Type::Date) => {
                self.steps.push(NowStep::ToTimestamp);
                NowStep::Trunc(unit)
            }
            (NowStep::Add(interval), _) => match self.steps.last_mut() {
                Some(NowStep::Add(before)) if interval.months == 0 && before.checked_add(interval).is_some() => {
                    let sum = before.checked_add(interval).map(justified).unwrap_or_default();
                    *before = sum;
                    if sum == Interval::default() && ty != Type::Date {
                        self.steps.pop();
                    }
                    return;
                }
                _ => NowStep::Add(justified(interval)),
            },
            (step, _) => step,
        };
        // Of a date, even an empty interval makes a local time.
        if step == NowStep::Add(Interval::default()) && ty != Type::Date {
            return;
        }
        self.steps.push(step);
    }
}

/// With whole days of 24 hours taken out of the microseconds: no step is in a zone, so a day has 24 hours.
fn justified(interval: Interval) -> Interval {
    match Interval::from_difference(interval.fixed_micros()) {
        Some(fixed) => Interval { months: interval.months, ..fixed },
        None => interval,
    }
}

//! The total of what counts, for `sum` and `avg`.

use super::{CapacityExceeded, Contribution, ENTRIES_MAX, Pending, Queue, add_all};
use crate::decimal::Decimal;
use crate::time::Timestamp;
use crate::value::Value;
use ethnum::I256;

/// A running total. It is wider than a decimal, so that the total is exact again after an overflow,
/// which is NULL.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    /// Of all contributions that count now, in units of 10⁻⁹.
    pub(crate) total: I256,
    pub(crate) count: u64,
    /// The amounts that will end, by their ends.
    pub(crate) ending: Queue<i128>,
    pub(crate) pending: Pending,
}

impl Sum {
    /// Adds a contribution. NULL values are skipped.
    pub fn add(&mut self, contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
        let Some(amount) = amount(&contribution.value) else { return Ok(()) };
        if contribution.from > now {
            self.pending.push(contribution, self.ending.len())
        } else {
            self.begin(contribution.until, amount)
        }
    }

    fn begin(&mut self, until: Timestamp, amount: i128) -> Result<(), CapacityExceeded> {
        if until < Timestamp::MAX {
            if self.entries() >= ENTRIES_MAX {
                return Err(CapacityExceeded { until });
            }
            self.ending.push(until, amount);
        }
        self.total += I256::from(amount);
        self.count += 1;
        Ok(())
    }

    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(contribution) = self.pending.pop_begun(now) {
            if let (true, Some(amount)) = (contribution.until > now, amount(&contribution.value)) {
                let begun = self.begin(contribution.until, amount);
                debug_assert!(begun.is_ok(), "it had its place while it waited");
            }
        }
        while let Some((_, amount)) = self.ending.pop_until(now) {
            self.total -= I256::from(amount);
            self.count -= 1;
        }
    }

    /// Returns `sum`; NULL if nothing counts or the total does not fit a decimal.
    pub fn total(&self) -> Value {
        if self.count == 0 { Value::Null } else { decimal(self.total) }
    }

    /// Returns `avg`, rounded half away from zero; NULL as for `sum`.
    pub fn average(&self) -> Value {
        if self.count == 0 {
            return Value::Null;
        }
        let count = I256::from(self.count);
        let half = if self.total < I256::ZERO { -(count / 2) } else { count / 2 };
        decimal((self.total + half) / count)
    }

    /// Returns how many count. Call after settling.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the ends and amounts of those that will end, latest first.
    pub(super) fn ending(&self) -> Vec<(Timestamp, &i128)> {
        self.ending.latest_first()
    }

    pub(crate) fn next_change(&self) -> Timestamp {
        self.pending.next().min(self.ending.next())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.ending.heap_bytes() + self.pending.heap_bytes()
    }

    pub(super) fn entries(&self) -> usize {
        self.ending.len() + self.pending.len()
    }

    pub(super) fn merge(&mut self, other: Sum, now: Timestamp) -> Result<(), CapacityExceeded> {
        let ending_total: I256 = other.ending.iter().fold(I256::ZERO, |sum, (_, amount)| sum + I256::from(*amount));
        self.total += other.total - ending_total;
        self.count += other.count - other.ending.len() as u64;
        let begun = add_all(other.ending.into_entries(), |(until, amount)| self.begin(until, amount));
        let waiting = add_all(other.pending.into_contributions(), |contribution| self.add(contribution, now));
        self.settle(now);
        add_all([begun, waiting], |outcome| outcome)
    }
}

fn amount(value: &Value) -> Option<i128> {
    match value {
        Value::Int(number) => Some(Decimal::from_int(*number).scaled()),
        Value::Decimal(number) => Some(number.scaled()),
        _ => None,
    }
}

fn decimal(scaled: I256) -> Value {
    i128::try_from(scaled).ok().and_then(Decimal::from_scaled).map_or(Value::Null, Value::Decimal)
}

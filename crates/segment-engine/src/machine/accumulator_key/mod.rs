//! What an accumulator keeps: segments that need the same share it, and each user has it once.

use crate::accumulator::{
    Accumulator, CapacityExceeded, Contribution, Count, Distinct, Extreme, Funnel, NewestK, Rank, contributions,
};
use crate::event::Event;
use crate::language::{Names, print_expression};
use crate::plan::{CompareOp, EventColumn, Expr};
use crate::time::Timestamp;
use crate::value::Value;

/// The index of an accumulator in a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccumulatorId(pub u32);

/// What an accumulator keeps. Conditions that need the same share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AccumulatorKey {
    /// The conditions on its events that do not depend on now.
    pub fixed: Vec<Expr>,
    /// The conditions that do.
    pub timed: Option<Expr>,
    /// The aggregate's argument.
    pub argument: Option<Expr>,
    /// How it keeps the events.
    pub kind: AccumulatorKind,
}

/// The kind of an [`Accumulator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum AccumulatorKind {
    /// [`NewestK`] of this capacity.
    NewestK(u32),
    /// [`Count`] with this cap.
    Count(u64),
    /// [`Sum`](crate::accumulator::Sum).
    Sum,
    /// [`Extreme`] by this rank.
    Extreme(Rank),
    /// [`Distinct`] with this cap.
    Distinct(u64),
    /// [`Funnel`] of this many steps, within this many microseconds.
    Funnel { steps: u8, within: i64 },
}

impl AccumulatorKey {
    /// Returns the name that checkpoints use, the same in every build: the hash of
    /// [`AccumulatorKey::canonical_text`].
    pub(super) fn fingerprint(&self) -> u64 {
        fnv1a(&self.canonical_text())
    }

    /// Returns the key in the language's one spelling. Equal keys have equal texts, and different
    /// keys different ones, since the compiler reads the spelling back as the same expression. To
    /// change a text is to change the format of checkpoints; `tests/checkpoints` compares the texts
    /// with stored ones.
    pub(super) fn canonical_text(&self) -> String {
        let mut text = match self.kind {
            AccumulatorKind::NewestK(capacity) => format!("newest {capacity}"),
            AccumulatorKind::Count(cap) => format!("count {cap}"),
            AccumulatorKind::Sum => "sum".to_owned(),
            AccumulatorKind::Extreme(Rank::Greatest) => "greatest".to_owned(),
            AccumulatorKind::Extreme(Rank::Least) => "least".to_owned(),
            AccumulatorKind::Extreme(Rank::Latest) => "latest".to_owned(),
            AccumulatorKind::Extreme(Rank::Earliest) => "earliest".to_owned(),
            AccumulatorKind::Distinct(cap) => format!("distinct {cap}"),
            AccumulatorKind::Funnel { within, .. } => format!("funnel {within}"),
        };
        let mut push = |part: &str, expr: &Expr| {
            text.extend([part, &print_expression(expr, &Names { aggregates: &[], segments: &[] })]);
        };
        self.argument.iter().for_each(|argument| push(" OF ", argument));
        self.fixed.iter().for_each(|condition| push(" WHERE ", condition));
        self.timed.iter().for_each(|condition| push(" WHILE ", condition));
        text
    }

    /// Returns the accumulator of a user without events.
    pub(super) fn empty(&self) -> Accumulator {
        match self.kind {
            AccumulatorKind::NewestK(capacity) => Accumulator::NewestK(NewestK::new(capacity)),
            AccumulatorKind::Count(cap) => Accumulator::Count(Box::new(Count::new(cap))),
            AccumulatorKind::Sum => Accumulator::Sum(Box::default()),
            AccumulatorKind::Extreme(rank) => Accumulator::Extreme(Box::new(Extreme::new(rank))),
            AccumulatorKind::Distinct(cap) => Accumulator::Distinct(Box::new(Distinct::new(cap))),
            AccumulatorKind::Funnel { steps, within } => Accumulator::Funnel(Box::new(Funnel::new(steps, within))),
        }
    }

    /// Adds an event that passes `fixed`.
    pub(super) fn add(
        &self,
        accumulator: &mut Accumulator,
        event: &Event,
        now: Timestamp,
    ) -> Result<(), CapacityExceeded> {
        if let Accumulator::NewestK(newest_k) = accumulator {
            newest_k.insert(event.created_at.0);
            return Ok(());
        }
        let mut refused = None;
        let add = |contribution| refused = refused.max(add_to(accumulator, contribution, now).err());
        contributions(self.timed.as_ref(), self.argument.as_ref(), event, now, add);
        refused.map_or(Ok(()), Err)
    }

    /// Whether it reads the event's user, which changes when users merge.
    pub(super) fn reads_user_id(&self) -> bool {
        let mut reads = false;
        for expr in self.fixed.iter().chain(&self.timed).chain(&self.argument) {
            expr.walk(&mut |node| reads |= *node == Expr::Event(EventColumn::UserId));
        }
        reads
    }

    /// Returns the activities of the events that the accumulator keeps; `None` for any activity.
    pub(super) fn activities(&self) -> Option<Vec<&str>> {
        let activity = Expr::Event(EventColumn::ActivityType);
        let activities = self.fixed.iter().find_map(|condition| texts_of(condition, &activity))?;
        Some(sorted(activities))
    }

    /// Returns another text of its events than the activity, and the values of which it has one;
    /// `None` if it asks for no certain text. Of several the one with the fewest values.
    pub(super) fn asked_text(&self) -> Option<(&Expr, Vec<&str>)> {
        let asked = self.fixed.iter().filter_map(|condition| {
            let (Expr::Compare(CompareOp::Eq, operand, _) | Expr::InList(operand, _)) = condition else { return None };
            let is_read = match &**operand {
                Expr::Event(column) => *column != EventColumn::ActivityType,
                Expr::Payload(path) => path.as_text,
                _ => false,
            };
            is_read.then_some(())?;
            Some((&**operand, sorted(texts_of(condition, operand)?)))
        });
        asked.min_by_key(|(_, texts)| texts.len())
    }
}

fn sorted(mut texts: Vec<&str>) -> Vec<&str> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// Returns the texts of `operand` for which the condition can be TRUE, perhaps with repetitions;
/// `None` for any text.
fn texts_of<'a>(condition: &'a Expr, operand: &Expr) -> Option<Vec<&'a str>> {
    match condition {
        Expr::Compare(CompareOp::Eq, left, right) if **left == *operand => Some(vec![text(right)?]),
        Expr::InList(item, list) if **item == *operand => list.iter().map(text).collect(),
        Expr::And(items) => items.iter().find_map(|item| texts_of(item, operand)),
        Expr::Or(items) => {
            let texts: Vec<Vec<&str>> = items.iter().map(|item| texts_of(item, operand)).collect::<Option<_>>()?;
            Some(texts.concat())
        }
        _ => None,
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
pub(super) fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn add_to(accumulator: &mut Accumulator, contribution: Contribution, now: Timestamp) -> Result<(), CapacityExceeded> {
    match accumulator {
        Accumulator::NewestK(_) => unreachable!("the newest k take events, not contributions"),
        Accumulator::Count(count) => count.add(contribution, now),
        Accumulator::Sum(sum) => sum.add(contribution, now),
        Accumulator::Extreme(extreme) => extreme.add(contribution, now),
        Accumulator::Distinct(distinct) => distinct.add(contribution, now),
        Accumulator::Funnel(funnel) => funnel.add(contribution, now),
    }
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(Value::Text(text), _) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

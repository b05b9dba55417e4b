//! Stores: the distinct leaf states that the segments of a machine need, each kept once per user.

use crate::event::Event;
use crate::language::{Names, print_expression};
use crate::leaf::{Contribution, Count, Distinct, Extreme, Funnel, Overfull, Rank, Ring, State, Sum, contributions};
use crate::plan::{CompareOp, EventColumn, Expr};
use crate::time::Timestamp;
use crate::value::Value;

/// A store of a machine, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub u32);

/// What a store keeps: two leaves that need the same share it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreKey {
    /// Which events it keeps, but for what depends on now.
    pub fixed: Vec<Expr>,
    /// The conditions that depend on now.
    pub timed: Option<Expr>,
    /// The aggregate's argument.
    pub argument: Option<Expr>,
    /// How it keeps them.
    pub kind: StoreKind,
}

/// The kind of a store's [`State`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreKind {
    /// [`Ring`] of this capacity.
    Ring(u32),
    /// [`Count`] with this cap.
    Count(u64),
    /// [`Sum`].
    Sum,
    /// [`Extreme`] by this rank.
    Extreme(Rank),
    /// [`Distinct`] with this cap.
    Distinct(u64),
    /// [`Funnel`] of this many steps, within so many microseconds.
    #[allow(missing_docs, reason = "explained above")]
    Funnel { steps: u8, within: i64 },
}

impl StoreKey {
    /// A name that outlives the build, for checkpoints: the hash of [`StoreKey::canonical_text`].
    pub fn fingerprint(&self) -> u64 {
        fnv1a(&self.canonical_text())
    }

    /// The key in the language's one spelling. Equal keys have equal texts and others have not, since the compiler reads the
    /// spelling back as the same expression. A change of a text is a change of the checkpoint's format: `tests/checkpoints.rs`
    /// holds it.
    pub fn canonical_text(&self) -> String {
        let mut text = match self.kind {
            StoreKind::Ring(capacity) => format!("newest {capacity}"),
            StoreKind::Count(cap) => format!("count {cap}"),
            StoreKind::Sum => "sum".to_owned(),
            StoreKind::Extreme(Rank::Greatest) => "greatest".to_owned(),
            StoreKind::Extreme(Rank::Least) => "least".to_owned(),
            StoreKind::Extreme(Rank::Latest) => "latest".to_owned(),
            StoreKind::Extreme(Rank::Earliest) => "earliest".to_owned(),
            StoreKind::Distinct(cap) => format!("distinct {cap}"),
            StoreKind::Funnel { within, .. } => format!("funnel {within}"),
        };
        let mut push = |part: &str, expr: &Expr| {
            text.extend([part, &print_expression(expr, &Names { aggregates: &[], segments: &[] })]);
        };
        self.argument.iter().for_each(|argument| push(" OF ", argument));
        self.fixed.iter().for_each(|condition| push(" WHERE ", condition));
        self.timed.iter().for_each(|condition| push(" WHILE ", condition));
        text
    }

    /// The state of a user without events.
    pub fn empty(&self) -> State {
        match self.kind {
            StoreKind::Ring(capacity) => State::Ring(Ring::new(capacity)),
            StoreKind::Count(cap) => State::Count(Count::new(cap)),
            StoreKind::Sum => State::Sum(Sum::default()),
            StoreKind::Extreme(rank) => State::Extreme(Extreme::new(rank)),
            StoreKind::Distinct(cap) => State::Distinct(Distinct::new(cap)),
            StoreKind::Funnel { steps, within } => State::Funnel(Box::new(Funnel::new(steps, within))),
        }
    }

    /// Adds an event that passes `fixed`.
    pub fn add(&self, state: &mut State, event: &Event, now: Timestamp) -> Result<(), Overfull> {
        if let State::Ring(ring) = state {
            ring.insert(event.created_at.0);
            return Ok(());
        }
        let mut refused = None;
        let add = |contribution| refused = refused.max(add_to(state, contribution, now).err());
        contributions(self.timed.as_ref(), self.argument.as_ref(), event, now, add);
        refused.map_or(Ok(()), Err)
    }

    /// Whether it reads whose event it is, which changes when users merge.
    pub fn reads_user_id(&self) -> bool {
        let mut reads = false;
        for expr in self.fixed.iter().chain(&self.timed).chain(&self.argument) {
            expr.walk(&mut |node| reads |= *node == Expr::Event(EventColumn::UserId));
        }
        reads
    }

    /// The activities that an event must have for the store to keep it; `None` if any will do.
    pub fn activities(&self) -> Option<Vec<&str>> {
        let mut activities = self.fixed.iter().find_map(activities_of)?;
        activities.sort_unstable();
        activities.dedup();
        Some(activities)
    }
}

/// The activities that an event must have for the condition to be TRUE, perhaps with repetitions; `None` if any will do.
fn activities_of(condition: &Expr) -> Option<Vec<&str>> {
    match condition {
        Expr::Compare(CompareOp::Eq, left, right) if is_activity(left) => Some(vec![text(right)?]),
        Expr::InList(item, list) if is_activity(item) => list.iter().map(text).collect(),
        Expr::And(items) => items.iter().find_map(activities_of),
        Expr::Or(items) => {
            let activities: Vec<Vec<&str>> = items.iter().map(activities_of).collect::<Option<_>>()?;
            Some(activities.concat())
        }
        _ => None,
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
pub(super) fn fnv1a(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

fn add_to(state: &mut State, contribution: Contribution, now: Timestamp) -> Result<(), Overfull> {
    match state {
        State::Ring(_) => unreachable!("rings take events as they are"),
        State::Count(count) => count.add(contribution, now),
        State::Sum(sum) => sum.add(contribution, now),
        State::Extreme(extreme) => extreme.add(contribution, now),
        State::Distinct(distinct) => distinct.add(contribution, now),
        State::Funnel(funnel) => funnel.add(contribution, now),
    }
}

fn is_activity(expr: &Expr) -> bool {
    *expr == Expr::Event(EventColumn::ActivityType)
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(Value::Text(text), _) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;

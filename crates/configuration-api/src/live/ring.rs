//! The newest notifications, in one order, for all who have kept up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What the ring holds at most, but always the newest. Who falls behind by more reads the log.
const RING_BYTES_MAX: usize = 16 << 20;
/// What an entry takes besides its texts.
const ENTRY_BYTES: usize = 128;

/// A notification as all are sent it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub partition: u32,
    pub offset: u64,
    /// The positions after it, of who has had everything before it.
    pub position: String,
    pub notification: String,
}

/// The newest notifications, numbered without gaps.
pub(super) struct Ring {
    state: Mutex<State>,
    /// Wakes whoever waits for another entry, or the end.
    changed: watch::Sender<()>,
}

struct State {
    /// The number of the first of `entries`.
    first: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// After the last of `entries`.
    positions: Vec<u64>,
    end: Option<End>,
}

/// Why nothing more comes.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Nobody sits there any more, or the server stops.
    Done,
    /// The log cannot be read.
    Failed(String),
}

/// What stands at a number.
pub(super) enum Look {
    Entry(Arc<Entry>),
    /// It is there no more.
    Gone,
    /// It is not there yet.
    Not,
    Over(End),
}

/// Wakes its holder at every change. The tail goes on for as long as there is one.
pub(super) type Seat = watch::Receiver<()>;

impl Ring {
    /// Empty, where the topic has these positions.
    pub(super) fn new(positions: Vec<u64>) -> Self {
        let state = State { first: 0, entries: VecDeque::new(), bytes: 0, positions, end: None };
        Self { state: Mutex::new(state), changed: watch::Sender::new(()) }
    }

    /// A seat, unless nothing more will come.
    pub(super) fn sit(&self) -> Option<Seat> {
        let state = self.state();
        state.end.is_none().then(|| self.changed.subscribe())
    }

    /// Adds a notification.
    pub(super) fn push(&self, partition: u32, offset: u64, notification: String) {
        let mut state = self.state();
        state.positions[partition as usize] = offset + 1;
        let position = super::written(&state.positions);
        let entry = Entry { partition, offset, position, notification };
        state.bytes += entry.bytes();
        state.entries.push_back(Arc::new(entry));
        while state.bytes > RING_BYTES_MAX && state.entries.len() > 1 {
            if let Some(oldest) = state.entries.pop_front() {
                state.bytes -= oldest.bytes();
                state.first += 1;
            }
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Notes that a partition has nothing before this position.
    pub(super) fn skip(&self, partition: u32, to: u64) {
        let position = &mut self.state().positions[partition as usize];
        *position = to.max(*position);
    }

    /// The number of the next entry, and the positions before it.
    pub(super) fn next(&self) -> (u64, Vec<u64>) {
        let state = self.state();
        (state.first + state.entries.len() as u64, state.positions.clone())
    }

    pub(super) fn look(&self, number: u64) -> Look {
        let state = self.state();
        let Some(index) = number.checked_sub(state.first) else { return Look::Gone };
        let entry = usize::try_from(index).ok().and_then(|index| state.entries.get(index));
        match (entry, &state.end) {
            (Some(entry), _) => Look::Entry(entry.clone()),
            (None, Some(end)) => Look::Over(end.clone()),
            (None, None) => Look::Not,
        }
    }

    /// Nothing more comes.
    pub(super) fn end(&self, end: End) {
        self.state().end = Some(end);
        self.changed.send_replace(());
    }

    /// Returns when nobody has a seat.
    pub(super) async fn deserted(&self) {
        self.changed.closed().await;
    }

    /// Ends if nobody has a seat. Then nobody takes one either.
    pub(super) fn end_if_deserted(&self) -> bool {
        let mut state = self.state();
        let is_deserted = self.changed.receiver_count() == 0;
        if is_deserted {
            state.end = Some(End::Done);
            // Whatever is held is for nobody.
            state.entries.clear();
        }
        is_deserted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.position.len() + self.notification.len() + ENTRY_BYTES
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_holds_the_newest_within_its_bytes() {
        let ring = Ring::new(vec![7, 0]);
        let _seat = ring.sit().unwrap();
        assert!(matches!(ring.look(0), Look::Not));
        let large = "x".repeat(RING_BYTES_MAX / 4);
        for offset in 7..20 {
            ring.push(0, offset, large.clone());
            assert!(ring.state().bytes <= RING_BYTES_MAX);
        }
        let (next, positions) = ring.next();
        assert_eq!((next, positions), (13, vec![20, 0]));
        // Three fit with what comes with them.
        let held: Vec<bool> = (0..13).map(|number| matches!(ring.look(number), Look::Entry(_))).collect();
        assert_eq!(held, (0..13).map(|number| number >= 10).collect::<Vec<_>>());
        assert!(matches!(ring.look(9), Look::Gone) && matches!(ring.look(13), Look::Not));
        let Look::Entry(entry) = ring.look(12) else { panic!("it is the newest") };
        assert_eq!((entry.partition, entry.offset, &*entry.position), (0, 19, "0:20,1:0"));
        ring.push(1, 0, "x".repeat(2 * RING_BYTES_MAX));
        assert!(matches!(ring.look(13), Look::Entry(_)) && matches!(ring.look(12), Look::Gone), "the newest stays");
    }

    #[test]
    fn it_ends_once_and_only_when_nobody_sits_there() {
        let ring = Ring::new(vec![0]);
        let seat = ring.sit().unwrap();
        assert!(!ring.end_if_deserted());
        drop(seat);
        assert!(ring.end_if_deserted());
        assert!(ring.sit().is_none(), "who comes later begins another");
    }
}

//! Users who are not known yet: they are looked up and created a few calls at a time, in the order
//! in which the events came.
//!
//! The config store has one writer. With more calls at once, each would take longer, and so would
//! whatever else is written. Beyond a bound, requests with lines are refused before their body is read;
//! all others wait, and never fail because others came before them.

use std::sync::atomic::{AtomicUsize, Ordering};

use ports::ErrorCode;
use tokio::sync::{Semaphore, SemaphorePermit};
use uss_http::{Kind, Problem};

use crate::limits::Limits;

/// What a call costs besides its identities, in identities: a transaction.
const CALL_COST: usize = 100;

/// The calls of the identities port.
pub(crate) struct Lookups {
    turns: Semaphore,
    /// Identities that are being looked up or wait for it, and [`CALL_COST`] for each call.
    identities: AtomicUsize,
    identities_max: usize,
}

/// Counts identities until it is dropped.
struct Counted<'a> {
    lookups: &'a Lookups,
    identities: usize,
}

/// The right to call the port.
pub(crate) struct Turn<'a> {
    _permit: Option<SemaphorePermit<'a>>,
    _counted: Counted<'a>,
}

impl Lookups {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            turns: Semaphore::new(limits.lookups_at_once_max),
            identities: AtomicUsize::new(0),
            identities_max: limits.unresolved_identities_max,
        }
    }

    /// Waits for a turn to look up so many identities.
    pub(crate) async fn turn(&self, identities: usize) -> Turn<'_> {
        let identities = identities + CALL_COST;
        self.identities.fetch_add(identities, Ordering::Relaxed);
        let counted = Counted { lookups: self, identities };
        // The semaphore is never closed.
        Turn { _permit: self.turns.acquire().await.ok(), _counted: counted }
    }

    /// Refuses a request with lines while very many identities wait.
    ///
    /// # Errors
    /// 429.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if self.identities.load(Ordering::Relaxed) < self.identities_max {
            return Ok(());
        }
        let message = "the users of too many events wait to be looked up or created; nothing was stored, send the same \
                       request again later";
        Err(Problem::new(Kind::TooMany, ErrorCode::OverCapacity, message))
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.lookups.identities.fetch_sub(self.identities, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn turns_come_in_order_and_what_waits_counts() {
        let limits = Limits { lookups_at_once_max: 1, unresolved_identities_max: 310, ..Limits::default() };
        let lookups = Lookups::new(&limits);
        let context = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(first) = pin!(lookups.turn(4)).poll(context) else { panic!("nobody else has the turn") };
        let (mut second, third) = (Box::pin(lookups.turn(5)), Box::pin(lookups.turn(1)));
        let mut third = third;
        assert!(second.as_mut().poll(context).is_pending());
        lookups.check().unwrap();
        assert!(third.as_mut().poll(context).is_pending());
        assert_eq!(lookups.check().unwrap_err().code, ErrorCode::OverCapacity);
        // A caller that goes away counts no longer.
        drop(second);
        lookups.check().unwrap();
        drop(first);
        assert!(third.as_mut().poll(context).is_ready());
        drop(third);
        assert_eq!(lookups.identities.load(Ordering::Relaxed), 0);
    }
}

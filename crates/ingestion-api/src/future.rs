//! Events whose `created_at` lies in the future.

use ports::ErrorCode;
use segment_engine::time::Timestamp;

use crate::admission::{EventDraft, Rejection};

/// What happens to events of the future.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FutureEvents {
    /// They are kept as sent: what counts from `created_at` on begins at that time.
    #[default]
    Keep,
    /// They count as created when they were received.
    Now,
    /// They are rejected with `FUTURE_EVENT`.
    Reject,
}

impl std::str::FromStr for FutureEvents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(Self::Keep),
            "now" => Ok(Self::Now),
            "reject" => Ok(Self::Reject),
            other => Err(format!("`{other}` is neither keep, now nor reject")),
        }
    }
}

/// What happens to events of the future, and which events are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuturePolicy {
    /// What happens to events of the future.
    pub events: FutureEvents,
    /// How far a client's clock may be ahead of ours.
    pub tolerance_micros: i64,
}

impl Default for FuturePolicy {
    fn default() -> Self {
        Self { events: FutureEvents::Keep, tolerance_micros: 300_000_000 }
    }
}

impl FuturePolicy {
    /// Returns the event as it is accepted if it is received now.
    ///
    /// # Errors
    /// Why it is rejected.
    pub fn apply<'a>(&self, mut draft: EventDraft<'a>, now: Timestamp) -> Result<EventDraft<'a>, Rejection> {
        let latest = Timestamp(now.0.saturating_add(self.tolerance_micros));
        if draft.created_at.is_some_and(|created_at| created_at > latest) {
            match self.events {
                FutureEvents::Keep => {}
                FutureEvents::Now => (draft.created_at, draft.record.created_at) = (None, None),
                FutureEvents::Reject => return Err(rejection(self.tolerance_micros)),
            }
        }
        Ok(draft)
    }
}

fn rejection(tolerance_micros: i64) -> Rejection {
    let seconds = tolerance_micros / 1_000_000;
    let message = format!(
        "`created_at` is more than {seconds} seconds ahead of our clock; correct the client's clock, or leave the field out \
         to use the time of receipt"
    );
    Rejection::new(ErrorCode::FutureEvent, message)
}

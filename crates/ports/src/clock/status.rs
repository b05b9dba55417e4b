//! The state of a guarded clock, and its messages to the operator.

use crate::ErrorCode;
use segment_engine::time::Timestamp;

use crate::records::instant;

const SECOND: i64 = 1_000_000;

/// How far a clock can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockStatus {
    /// The jump of the system clock that is in doubt.
    pub jump: Option<Jump>,
    /// How far the time is behind the log's time, in microseconds; 0 within the tolerance.
    pub behind_micros: i64,
    /// The number of jumps since the start.
    pub jumps: u64,
}

/// A jump of the system clock that has not been taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// How far the system clock is ahead of the time in use, in microseconds. Negative after a jump
    /// back.
    pub ahead_micros: i64,
    /// Microseconds until the jump is taken over if it lasts. `None` if an operator must accept it.
    pub taken_in_micros: Option<i64>,
}

impl ClockStatus {
    /// Returns a stable code and a message that says what to do, or `None` if nothing is wrong.
    pub fn warning(&self) -> Option<(ErrorCode, String)> {
        if let Some(jump) = self.jump {
            return Some((ErrorCode::ClockJumped, jump.message()));
        }
        (self.behind_micros > 0).then(|| {
            let message = format!(
                "the system clock is {} behind the log's time: windows do not end until it has caught up; \
                 check the clock of this machine",
                length(self.behind_micros)
            );
            (ErrorCode::ClockBehind, message)
        })
    }
}

impl Jump {
    fn message(&self) -> String {
        let direction = if self.ahead_micros > 0 { "ahead" } else { "back" };
        let end = match self.taken_in_micros {
            Some(micros) => format!("time follows the jump in {} if it lasts", length(micros)),
            None => "the jump is so large that an operator must accept it".to_owned(),
        };
        format!(
            "the system clock jumped {direction} by {}; time continues from before the jump, and {end}. Check the clock \
             of this machine; if it is right, accept it with POST /api/v1/clock/accept",
            length(self.ahead_micros)
        )
    }
}

/// Why a start refuses the time of the system clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    /// The clock shows a time before this program was written.
    #[error("the system clock says {}, which is before this version of USS was built", instant::format(*.0))]
    Past(Timestamp),
    /// The clock is so far ahead of the log's last time that it is probably wrong.
    #[error(
        "the system clock says {}, years after the last time in the log, {}. Time in a log never goes back, so a start \
         with a wrong clock would stop time until then", instant::format(*.now), instant::format(*.reached)
    )]
    FarAhead {
        /// The time of the system clock.
        now: Timestamp,
        /// The last time in the log.
        reached: Timestamp,
    },
    /// The log of a new data folder would start too far in the future.
    #[error("the system clock says {}, which is decades after this version of USS was built", instant::format(*.0))]
    Future(Timestamp),
}

/// Formats a duration for people, in the largest unit of which it has at least two.
fn length(micros: i64) -> String {
    let seconds = micros.unsigned_abs().div_ceil(SECOND.unsigned_abs());
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (name, unit) = unit.unwrap_or(("seconds", 1));
    format!("{} {name}", seconds / unit)
}

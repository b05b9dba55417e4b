//! What there is to say about a clock.

use crate::ErrorCode;
use segment_engine::time::Timestamp;

use crate::records::instant;

const SECOND: i64 = 1_000_000;

/// How far a clock can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockStatus {
    /// The jump of the system clock that is in doubt.
    pub jump: Option<Jump>,
    /// How far the time lies behind the log's time, in microseconds; 0 if no further than is tolerated.
    pub behind_micros: i64,
    /// Jumps seen since the start.
    pub jumps: u64,
}

/// A jump of the system clock that has not been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// How far the system clock is ahead of the time in use, in microseconds; negative if it jumped back.
    pub ahead_micros: i64,
    /// In how many microseconds it is taken if it stays; `None` if only an operator can accept it.
    pub taken_in_micros: Option<i64>,
}

impl ClockStatus {
    /// A stable code, and a message that says what to do. `None` if all is well.
    pub fn warning(&self) -> Option<(ErrorCode, String)> {
        if let Some(jump) = self.jump {
            return Some((ErrorCode::ClockJumped, jump.message()));
        }
        (self.behind_micros > 0).then(|| {
            let message = format!(
                "the system clock is {} behind the time that the log has reached: windows do not end until it gets there; \
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
            Some(micros) => format!("it is taken in {} if it stays", length(micros)),
            None => "so far that it is not taken by itself".to_owned(),
        };
        format!(
            "the system clock jumped {direction} by {}; time goes on from before the jump, and {end}. Check the clock of this \
             machine; if it is right, accept it with POST /api/v1/clock/accept",
            length(self.ahead_micros)
        )
    }
}

/// Why a start does not take the system clock at its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    /// It shows a time before this program was written.
    #[error("the system clock says {}, which is before this version of USS was made", instant::format(*.0))]
    Past(Timestamp),
    /// It is so far ahead of the log's last time that it is more likely wrong.
    #[error(
        "the system clock says {}, years after the last time in the log, {}. Time in a log never goes back, so a start with a \
         wrong clock would stop it until then", instant::format(*.now), instant::format(*.reached)
    )]
    FarAhead {
        /// What the system clock says.
        now: Timestamp,
        /// The last time in the log.
        reached: Timestamp,
    },
    /// A new log would begin too far in the future.
    #[error("the system clock says {}, which is decades after this version of USS was made", instant::format(*.0))]
    Future(Timestamp),
}

/// A length of time in the largest unit of which there are at least two, for people.
fn length(micros: i64) -> String {
    let seconds = micros.unsigned_abs().div_ceil(SECOND.unsigned_abs());
    let units = [("days", 86_400), ("hours", 3_600), ("minutes", 60)];
    let unit = units.into_iter().find(|(_, length)| seconds >= 2 * length);
    let (name, unit) = unit.unwrap_or(("seconds", 1));
    format!("{} {name}", seconds / unit)
}

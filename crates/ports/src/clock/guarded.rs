//! A clock that does not follow the system clock's jumps.
//!
//! Time in the log never goes back. So a system clock that is a day ahead for a moment would end windows a day early and then
//! stop time for a day. [`GuardedClock`] compares the system clock with one that nobody can set. Where they part by more than
//! [`Limits::tolerance_micros`] between two readings, the system clock was set: time goes on at the other clock's pace from the
//! last good reading until the jump has lasted for [`Limits::settle_micros`], the system clock is back, or an operator accepts
//! it. What is smaller, such as the slewing of NTP or a leap second, is followed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segment_engine::time::Timestamp;

use super::{Clock, ClockStatus, Implausible, Jump, Monotonic};

const DAY: i64 = 86_400_000_000;

/// 2025-01-01: USS was written after it, so no clock that is right shows less. A constant, so that builds can be reproduced.
const MADE_AFTER: Timestamp = Timestamp(1_735_689_600_000_000);
/// How far ahead of the log's last time, or of the last good reading, a clock is no longer believed by itself: a data folder may
/// have been left alone for months, but hardly for longer.
const AHEAD_MAX: i64 = 730 * DAY;
/// The same for a new log, after [`MADE_AFTER`].
const NEW_AHEAD_MAX: i64 = 30 * 365 * DAY;

/// From when on a change of the system clock is a jump, and for how long it is in doubt.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far the system clock may step between two readings.
    pub tolerance_micros: i64,
    /// How long a jump must last to be taken.
    pub settle_micros: i64,
}

/// The system clock, guarded by a clock that nobody can set.
pub struct GuardedClock {
    system: Arc<dyn Clock>,
    monotonic: Arc<dyn Monotonic>,
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    /// What the system clock was ahead of the monotonic one at the last good reading.
    offset: i64,
    /// The latest time that was given out, or that the log had reached at the start.
    reached: Timestamp,
    doubt: Option<Doubt>,
    is_behind: bool,
    jumps: u64,
}

/// A jump that has not been taken.
#[derive(Clone, Copy)]
struct Doubt {
    /// What the system clock is ahead of the monotonic one.
    offset: i64,
    /// The monotonic time at which it was seen first.
    since: i64,
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    system: Timestamp,
    elapsed: i64,
}

impl Reading {
    fn offset(self) -> i64 {
        self.system.0.saturating_sub(self.elapsed)
    }
}

/// What an operator must hear of.
#[derive(Clone, Copy)]
enum Change {
    Jumped,
    CameBack,
    Taken,
    Behind,
    CaughtUp,
}

impl GuardedClock {
    /// A guard that believes the system clock as it is now; see [`GuardedClock::start`].
    pub fn new(system: Arc<dyn Clock>, monotonic: Arc<dyn Monotonic>, limits: Limits) -> Self {
        let offset = Reading { system: system.now(), elapsed: monotonic.elapsed_micros() }.offset();
        let state = State { offset, reached: Timestamp::MIN, doubt: None, is_behind: false, jumps: 0 };
        Self { system, monotonic, limits, state: Mutex::new(state) }
    }

    /// Compares the system clock with the last time in the log (`None` if there is none), the only evidence at a start. To be
    /// ahead by days is normal after an outage; to be behind is told.
    ///
    /// # Errors
    /// The clock shows what cannot be. Without this check, [`Clock::accept`] is the answer to it.
    pub fn start(&self, reached: Option<Timestamp>) -> Result<(), Implausible> {
        let now = self.read().system;
        if now < MADE_AFTER {
            return Err(Implausible::Past(now));
        }
        match reached {
            Some(reached) if now.0.saturating_sub(reached.0) > AHEAD_MAX => {
                return Err(Implausible::FarAhead { now, reached });
            }
            None if now.0.saturating_sub(MADE_AFTER.0) > NEW_AHEAD_MAX => return Err(Implausible::Future(now)),
            _ => {}
        }
        self.begin_at(reached);
        Ok(())
    }

    /// As [`GuardedClock::start`], with a clock that whoever starts the system says is right.
    pub fn start_accepted(&self, reached: Option<Timestamp>) {
        self.accept();
        self.begin_at(reached);
    }

    fn begin_at(&self, reached: Option<Timestamp>) {
        let mut state = self.state();
        state.reached = reached.unwrap_or(Timestamp::MIN).max(state.reached);
        drop(state);
        self.look();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Reading {
        Reading { system: self.system.now(), elapsed: self.monotonic.elapsed_micros() }
    }

    /// Reads both clocks, goes on, and tells what has changed. Returns the time, and how far it can be trusted.
    fn look(&self) -> (Timestamp, ClockStatus) {
        let mut state = self.state();
        let mut reading = self.read();
        if state.is_jump(reading, self.limits) {
            // A thread that was stopped between the two readings would see a jump where there is none.
            reading = self.read();
        }
        let (now, changes) = state.go_on(reading, self.limits);
        let status = state.status(reading, self.limits);
        drop(state);
        changes.into_iter().for_each(|change| change.tell(&status));
        (now, status)
    }
}

impl Change {
    fn tell(self, status: &ClockStatus) {
        match self {
            Change::Jumped | Change::Behind => {
                if let Some((code, message)) = status.warning() {
                    tracing::warn!(%code, "{message}");
                }
            }
            Change::CameBack => tracing::info!(code = "CLOCK_CAME_BACK", "the system clock is back where it should be"),
            Change::Taken => {
                tracing::warn!(code = "CLOCK_JUMP_TAKEN", "the jump of the system clock has lasted and is taken");
            }
            Change::CaughtUp => {
                tracing::info!(code = "CLOCK_CAUGHT_UP", "the system clock has reached the log's time: time goes on");
            }
        }
    }
}

impl State {
    fn expected(&self, reading: Reading) -> i64 {
        reading.elapsed.saturating_add(self.offset)
    }

    /// How far the system clock is from where it should be.
    fn drift(&self, reading: Reading) -> i64 {
        reading.system.0.saturating_sub(self.expected(reading))
    }

    fn is_jump(&self, reading: Reading, limits: Limits) -> bool {
        self.drift(reading).saturating_abs() > limits.tolerance_micros
    }

    fn go_on(&mut self, reading: Reading, limits: Limits) -> (Timestamp, Vec<Change>) {
        let mut changes = Vec::new();
        if !self.is_jump(reading, limits) {
            self.offset = reading.offset();
            changes.extend(self.doubt.take().map(|_| Change::CameBack));
        } else {
            let is_same = |doubt: &Doubt| {
                reading.offset().saturating_sub(doubt.offset).saturating_abs() <= limits.tolerance_micros
            };
            let known = self.doubt.filter(is_same);
            if known.is_none() {
                self.jumps += 1;
                changes.push(Change::Jumped);
            }
            let since = known.map_or(reading.elapsed, |known| known.since);
            self.doubt = Some(Doubt { offset: reading.offset(), since });
            if self.taken_in(reading, limits).is_some_and(|left| left <= 0) {
                self.offset = reading.offset();
                self.doubt = None;
                changes.push(Change::Taken);
            }
        }
        let now = Timestamp(self.expected(reading));
        self.reached = self.reached.max(now);
        let is_behind = self.behind(now, limits) > 0;
        if is_behind != std::mem::replace(&mut self.is_behind, is_behind) {
            changes.push(if is_behind { Change::Behind } else { Change::CaughtUp });
        }
        (now, changes)
    }

    /// In how many microseconds a jump is taken; `None` if there is none, or one that must be accepted.
    fn taken_in(&self, reading: Reading, limits: Limits) -> Option<i64> {
        let is_plausible = self.drift(reading) <= AHEAD_MAX && reading.system >= MADE_AFTER;
        let doubt = self.doubt.filter(|_| is_plausible)?;
        Some(limits.settle_micros.saturating_sub(reading.elapsed.saturating_sub(doubt.since)))
    }

    fn behind(&self, now: Timestamp, limits: Limits) -> i64 {
        let behind = self.reached.0.saturating_sub(now.0);
        if behind > limits.tolerance_micros { behind } else { 0 }
    }

    fn status(&self, reading: Reading, limits: Limits) -> ClockStatus {
        let jump = self
            .doubt
            .map(|_| Jump { ahead_micros: self.drift(reading), taken_in_micros: self.taken_in(reading, limits) });
        let behind_micros = self.behind(Timestamp(self.expected(reading)), limits);
        ClockStatus { jump, behind_micros, jumps: self.jumps }
    }
}

impl Clock for GuardedClock {
    fn now(&self) -> Timestamp {
        self.look().0
    }

    fn status(&self) -> ClockStatus {
        self.look().1
    }

    fn accept(&self) {
        let mut state = self.state();
        state.offset = self.read().offset();
        let was_in_doubt = state.doubt.take().is_some();
        drop(state);
        if was_in_doubt {
            tracing::warn!(code = "CLOCK_ACCEPTED", "the jump of the system clock was accepted by an operator");
        }
        self.look();
    }
}

//! A clock that does not follow jumps of the system clock.
//!
//! Time in the log never goes back. A system clock that was a day ahead for a moment would end
//! windows a day early and then stop time for a day. [`GuardedClock`] compares the system clock
//! with a clock that cannot be set. If they diverge by more than [`Limits::tolerance_micros`]
//! between two readings, the system clock was set. From the last good reading on, time then follows
//! the other clock, until the jump has lasted for [`Limits::settle_micros`], the system clock is
//! back, or an operator accepts the jump. Smaller changes, such as the slewing of NTP or a leap
//! second, are followed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use segment_engine::time::Timestamp;

use super::{Clock, ClockStatus, Implausible, Jump, Monotonic};

const DAY: i64 = 86_400_000_000;

/// 2025-01-01. USS was written later, so a correct clock never shows less. A constant keeps builds
/// reproducible.
const MADE_AFTER: Timestamp = Timestamp(1_735_689_600_000_000);
/// How far a start accepts a clock ahead of the log's last time, and a running clock accepts a jump
/// ahead. A data folder may have been unused for months, but hardly for longer.
const AHEAD_MAX: i64 = 730 * DAY;
/// The same for a new log, measured from [`MADE_AFTER`].
const NEW_AHEAD_MAX: i64 = 30 * 365 * DAY;

/// Which changes of the system clock are jumps, and how long a jump stays in doubt.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How far the system clock may step between two readings.
    pub tolerance_micros: i64,
    /// How long a jump must last before it is taken over.
    pub settle_micros: i64,
}

/// The system clock, guarded by a clock that cannot be set.
pub struct GuardedClock {
    system: Arc<dyn Clock>,
    monotonic: Arc<dyn Monotonic>,
    limits: Limits,
    state: Mutex<State>,
}

struct State {
    /// By how much the system clock was ahead of the monotonic one at the last good reading.
    offset: i64,
    /// The latest time that was returned, or that the log had reached at the start.
    reached: Timestamp,
    doubt: Option<Doubt>,
    is_behind: bool,
    jumps: u64,
}

/// A jump that has not been taken over.
#[derive(Clone, Copy)]
struct Doubt {
    /// By how much the system clock is ahead of the monotonic one.
    offset: i64,
    /// The monotonic time at which the jump was first seen.
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

/// A change that the operator should know.
#[derive(Clone, Copy)]
enum Change {
    Jumped,
    CameBack,
    Taken,
    Behind,
    CaughtUp,
}

impl GuardedClock {
    /// Creates a guard that trusts the current system clock. See [`GuardedClock::start`].
    pub fn new(system: Arc<dyn Clock>, monotonic: Arc<dyn Monotonic>, limits: Limits) -> Self {
        let offset = Reading { system: system.now(), elapsed: monotonic.elapsed_micros() }.offset();
        let state = State { offset, reached: Timestamp::MIN, doubt: None, is_behind: false, jumps: 0 };
        Self { system, monotonic, limits, state: Mutex::new(state) }
    }

    /// Compares the system clock with the last time in the log (`None` if it is empty), the only
    /// evidence at a start. A clock days ahead is normal after an outage. A clock behind is
    /// reported.
    ///
    /// # Errors
    /// The clock shows an implausible time. [`GuardedClock::start_accepted`] starts without this
    /// check.
    pub fn start(&self, reached: Option<Timestamp>) -> Result<(), Implausible> {
        // The same reading that is checked is trusted: the system clock may have been set since the
        // guard was made.
        let reading = self.read();
        let now = reading.system;
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
        let mut state = self.state();
        state.offset = reading.offset();
        state.doubt = None;
        drop(state);
        self.begin_at(reached);
        Ok(())
    }

    /// Like [`GuardedClock::start`], after the operator confirmed that the clock is right.
    pub fn start_accepted(&self, reached: Option<Timestamp>) {
        self.accept();
        self.begin_at(reached);
    }

    fn begin_at(&self, reached: Option<Timestamp>) {
        let mut state = self.state();
        state.reached = reached.unwrap_or(Timestamp::MIN).max(state.reached);
        drop(state);
        self.update();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Reading {
        Reading { system: self.system.now(), elapsed: self.monotonic.elapsed_micros() }
    }

    /// Reads both clocks, advances the time and logs what changed. Returns the time and how far it
    /// can be trusted.
    fn update(&self) -> (Timestamp, ClockStatus) {
        let mut state = self.state();
        let mut reading = self.read();
        if state.is_jump(reading, self.limits) {
            // A thread that is suspended between the two readings would see a jump that did not
            // happen.
            reading = self.read();
        }
        let (now, changes) = state.advance(reading, self.limits);
        let status = state.status(reading, self.limits);
        drop(state);
        changes.into_iter().for_each(|change| change.log(&status));
        (now, status)
    }
}

impl Change {
    fn log(self, status: &ClockStatus) {
        match self {
            Change::Jumped | Change::Behind => {
                if let Some((code, message)) = status.warning() {
                    tracing::warn!(%code, "{message}");
                }
            }
            Change::CameBack => {
                tracing::info!(code = "CLOCK_CAME_BACK", "the system clock is back at its expected time")
            }
            Change::Taken => {
                tracing::warn!(code = "CLOCK_JUMP_TAKEN", "the jump of the system clock lasted; time follows it now");
            }
            Change::CaughtUp => {
                tracing::info!(code = "CLOCK_CAUGHT_UP", "the system clock has reached the log's time: time continues");
            }
        }
    }
}

impl State {
    fn expected(&self, reading: Reading) -> i64 {
        reading.elapsed.saturating_add(self.offset)
    }

    /// Returns how far the system clock is from its expected time.
    fn drift(&self, reading: Reading) -> i64 {
        reading.system.0.saturating_sub(self.expected(reading))
    }

    fn is_jump(&self, reading: Reading, limits: Limits) -> bool {
        self.drift(reading).saturating_abs() > limits.tolerance_micros
    }

    fn advance(&mut self, reading: Reading, limits: Limits) -> (Timestamp, Vec<Change>) {
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

    /// Returns the microseconds until a jump is taken over. `None` if there is no jump, or if an
    /// operator must accept it.
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
        self.update().0
    }

    fn status(&self) -> ClockStatus {
        self.update().1
    }

    fn accept(&self) {
        let mut state = self.state();
        state.offset = self.read().offset();
        let was_in_doubt = state.doubt.take().is_some();
        drop(state);
        if was_in_doubt {
            tracing::warn!(code = "CLOCK_ACCEPTED", "an operator accepted the jump of the system clock");
        }
        self.update();
    }
}

//! The guarded clock, with both of its sources set by the test.

use std::sync::Arc;

use ports::clock::{Clock, ClockStatus, GuardedClock, Implausible, Jump, Limits, ManualClock};
use segment_engine::time::Timestamp;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600 * SECOND;
const LIMITS: Limits = Limits { tolerance_micros: MINUTE, settle_micros: 10 * MINUTE };

struct World {
    system: Arc<ManualClock>,
    monotonic: Arc<ManualClock>,
    clock: GuardedClock,
}

impl World {
    /// A clock that begins at [`START`], on a machine that runs for a day.
    fn new() -> Self {
        Self::at(START)
    }

    fn at(system: i64) -> Self {
        let system = Arc::new(ManualClock::at(Timestamp(system)));
        let monotonic = Arc::new(ManualClock::at(Timestamp(DAY)));
        let clock = GuardedClock::new(system.clone(), monotonic.clone(), LIMITS);
        Self { system, monotonic, clock }
    }

    /// Time passes for both clocks.
    fn pass(&self, micros: i64) {
        self.system.advance_micros(micros);
        self.monotonic.advance_micros(micros);
    }

    /// Somebody sets the system clock.
    fn step(&self, micros: i64) {
        self.system.advance_micros(micros);
    }

    /// The time since the start.
    fn now(&self) -> i64 {
        self.clock.now().0 - START
    }

    fn jump(&self) -> Option<Jump> {
        self.clock.status().jump
    }

    fn code(&self) -> Option<&'static str> {
        self.clock.status().warning().map(|(code, _)| code.as_str())
    }
}

#[test]
fn a_step_ahead_and_back_leaves_no_trace_in_time() {
    let world = World::new();
    world.pass(MINUTE);
    assert_eq!((world.now(), world.code()), (MINUTE, None));
    world.step(DAY);
    assert_eq!((world.now(), world.code()), (MINUTE, Some("CLOCK_JUMPED")));
    world.pass(4 * SECOND);
    assert_eq!(world.now(), MINUTE + 4 * SECOND, "time goes on at its pace, so windows end when they should");
    assert_eq!(world.jump(), Some(Jump { ahead_micros: DAY, taken_in_micros: Some(10 * MINUTE - 4 * SECOND) }));
    world.step(-DAY);
    world.pass(SECOND);
    assert_eq!((world.now(), world.code()), (MINUTE + 5 * SECOND, None));
    assert_eq!(world.clock.status(), ClockStatus { jumps: 1, ..ClockStatus::default() });
}

#[test]
fn a_start_trusts_the_reading_that_it_checked() {
    let world = World::at(START + YEAR);
    // The machine's clock is corrected while the log is opened.
    world.step(-YEAR);
    world.clock.start(Some(Timestamp(START - DAY))).unwrap();
    assert_eq!((world.now(), world.code()), (0, None));
}

#[test]
fn a_jump_that_lasts_is_taken() {
    for step in [DAY, -DAY, 61 * SECOND] {
        let world = World::new();
        world.step(step);
        assert_eq!(world.now(), 0, "{step}");
        world.pass(10 * MINUTE - 1);
        assert_eq!(world.now(), 10 * MINUTE - 1, "{step}");
        world.pass(1);
        assert_eq!(world.now(), 10 * MINUTE + step, "{step}");
        assert_eq!(world.jump(), None);
        // The log had reached what time was before the step back.
        let behind = if step < 0 { (-step - 1, Some("CLOCK_BEHIND")) } else { (0, None) };
        assert_eq!((world.clock.status().behind_micros, world.code()), behind, "{step}");
    }
}

#[test]
fn another_jump_starts_the_wait_again() {
    let world = World::new();
    world.step(DAY);
    assert_eq!(world.now(), 0);
    world.pass(9 * MINUTE);
    world.step(HOUR);
    assert_eq!(world.now(), 9 * MINUTE);
    world.pass(9 * MINUTE);
    assert_eq!(world.now(), 18 * MINUTE, "the second jump has lasted for nine minutes");
    assert_eq!(world.clock.status().jumps, 2);
    world.pass(MINUTE);
    assert_eq!(world.now(), 19 * MINUTE + DAY + HOUR);
}

#[test]
fn an_operator_accepts_a_jump() {
    let world = World::new();
    world.step(70 * YEAR);
    assert_eq!(world.now(), 0);
    world.pass(DAY);
    assert_eq!(world.now(), DAY, "years are not taken without a question, however long they last");
    assert_eq!(world.jump(), Some(Jump { ahead_micros: 70 * YEAR, taken_in_micros: None }));
    world.clock.accept();
    assert_eq!((world.now(), world.code()), (DAY + 70 * YEAR, None));
}

#[test]
fn a_clock_of_1970_is_not_taken_by_itself() {
    let world = World::new();
    world.step(-START);
    world.now();
    world.pass(HOUR);
    assert_eq!(world.now(), HOUR);
    assert_eq!(world.jump().unwrap().taken_in_micros, None);
}

#[test]
fn small_steps_and_slewing_are_followed() {
    let world = World::new();
    for step in [MINUTE, -MINUTE, -30 * SECOND, SECOND, -1] {
        let before = world.now();
        world.step(step);
        assert_eq!((world.now(), world.jump()), (before + step, None), "{step}");
    }
    let world = World::new();
    // A leap second smeared over a day, then a clock that is slewed for weeks: more than the tolerance in all.
    for _ in 0..2_000 {
        world.step(SECOND / 10);
        world.pass(SECOND);
        world.now();
    }
    assert_eq!((world.now(), world.clock.status().jumps), (2_200 * SECOND, 0));
}

#[test]
fn a_suspend_is_no_jump() {
    let world = World::new();
    // The other clock counts the night that the machine slept too.
    world.pass(8 * HOUR);
    assert_eq!((world.now(), world.clock.status()), (8 * HOUR, ClockStatus::default()));
}

#[test]
fn a_small_step_back_is_no_alarm_and_a_large_one_is() {
    let world = World::new();
    world.step(-MINUTE);
    assert_eq!((world.now(), world.code()), (-MINUTE, None));
    let world = World::new();
    world.step(-HOUR);
    world.pass(8 * SECOND);
    assert_eq!((world.now(), world.code()), (8 * SECOND, Some("CLOCK_JUMPED")), "windows end all the same");
    assert_eq!(world.jump().unwrap().ahead_micros, -HOUR);
    world.step(HOUR);
    assert_eq!((world.now(), world.code()), (8 * SECOND, None));
}

#[test]
fn a_start_takes_days_and_refuses_what_cannot_be() {
    let reached = Some(Timestamp(START));
    // What the system clock says, the last time in the log, and whether that is believed.
    for (system, reached, is_believed) in [
        (START + 8 * SECOND, reached, true),
        (START + 40 * DAY, reached, true),
        (START + 2 * YEAR, reached, true),
        (START + 2 * YEAR + 1, reached, false),
        (START + 73 * YEAR, reached, false),
        (START, None, true),
        (START + 73 * YEAR, None, false),
        (START - 2 * YEAR, reached, false),
        (0, None, false),
    ] {
        let world = World::at(system);
        let started = world.clock.start(reached);
        assert_eq!(started.is_ok(), is_believed, "{system} after {reached:?}: {started:?}");
        world.clock.start_accepted(reached);
        assert_eq!(world.clock.now(), Timestamp(system), "an accepted time is used as it is");
    }
    let far = World::at(START + 73 * YEAR).clock.start(reached).unwrap_err();
    assert_eq!(far, Implausible::FarAhead { now: Timestamp(START + 73 * YEAR), reached: Timestamp(START) });
    assert!(far.to_string().contains("2026-01-01T00:00:00"), "{far}");
}

#[test]
fn a_clock_behind_the_log_is_reported_until_it_catches_up() {
    let world = World::new();
    world.clock.start(Some(Timestamp(START + HOUR))).unwrap();
    let behind = ClockStatus { behind_micros: HOUR, ..ClockStatus::default() };
    assert_eq!((world.clock.status(), world.code()), (behind, Some("CLOCK_BEHIND")));
    world.pass(HOUR - MINUTE);
    assert_eq!(world.clock.status(), ClockStatus::default(), "a minute is tolerated");
    let world = World::new();
    world.clock.start(Some(Timestamp(START + MINUTE))).unwrap();
    assert_eq!(world.clock.status(), ClockStatus::default());
}

#[test]
fn warnings_say_how_far_and_what_to_do() {
    let world = World::new();
    world.step(DAY);
    let (_, message) = world.clock.status().warning().unwrap();
    for part in ["ahead by 24 hours", "in 10 minutes", "POST /api/v1/clock/accept"] {
        assert!(message.contains(part), "{message}");
    }
    world.step(-DAY - 90 * SECOND);
    let (_, message) = world.clock.status().warning().unwrap();
    assert!(message.contains("back by 90 seconds"), "{message}");
}

//! Time zones: from instants to local times and back, by the time zone database that is compiled
//! in.

use std::hash::{Hash, Hasher};

use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::calendar::{CYCLE_DAYS, DAY, HOUR, SECOND};

/// No zone is, or was, further from UTC than this, in microseconds.
pub const OFFSET_MICROS_MAX: i64 = 26 * HOUR;

const CYCLE_SECONDS: i64 = CYCLE_DAYS * DAY / SECOND;

/// An IANA time zone. Zones are equal if their canonical names are.
#[derive(Clone, Debug)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

/// A change of a zone's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The first instant of the new offset.
    pub at: i64,
    /// The offset until then, in microseconds east of UTC.
    pub before: i64,
    /// The offset from then on.
    pub after: i64,
}

impl Transition {
    /// Returns the first local time that has the new offset. A local time that the change skips is
    /// read with the old offset and one that it repeats with the new one, so in both cases this is
    /// where the clock has the new offset.
    pub fn local(self) -> i64 {
        self.at.saturating_add(self.after)
    }
}

impl Zone {
    /// Looks up a name of the IANA database, in any case. `None` if there is no such zone.
    pub fn parse(name: &str) -> Option<Zone> {
        let rules = TimeZoneDatabase::bundled().get(name).ok()?;
        if rules.is_unknown() {
            return None;
        }
        let name = rules.iana_name()?.to_owned();
        Some(Zone { name, rules })
    }

    /// Returns the name as the database spells it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the local time at an instant.
    pub fn to_local(&self, instant: i64) -> i64 {
        instant.saturating_add(self.offset_at(instant))
    }

    /// Returns the instant of a local time. If the clock shows the time twice, it is the later
    /// instant; if it skips the time, the offset before the change holds.
    pub fn to_instant(&self, local: i64) -> i64 {
        let (moment, _) = in_range(local);
        let offset = match self.rules.to_ambiguous_timestamp(Offset::UTC.to_datetime(moment)).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset,
            AmbiguousOffset::Gap { before, .. } => before,
            AmbiguousOffset::Fold { after, .. } => after,
        };
        local.saturating_sub(micros(offset))
    }

    /// Returns the offset at an instant, in microseconds east of UTC.
    pub fn offset_at(&self, instant: i64) -> i64 {
        micros(self.rules.to_offset(in_range(instant).0))
    }

    /// Returns the changes of offset at instants in `[from, until]`, in order.
    pub fn transitions(&self, from: i64, until: i64) -> Vec<Transition> {
        let (start, shift) = in_range(from.saturating_sub(SECOND));
        self.rules
            .following(start)
            .map(|change| (i128::from(change.timestamp().as_second()) * i128::from(SECOND) + shift, change.offset()))
            .take_while(|(at, _)| *at <= i128::from(until))
            .filter(|(at, _)| i128::from(from) <= *at)
            .map(|(at, offset)| {
                let at = at as i64; // between `from` and `until`, so it fits
                Transition { at, before: self.offset_at(at.saturating_sub(1)), after: micros(offset) }
            })
            .collect()
    }
}

/// Returns an instant that the library knows, and how many microseconds later the given one is. The
/// library knows the years −9999 to 9999. After them, zones go on by yearly rules on a calendar
/// that repeats every 400 years.
fn in_range(micros: i64) -> (jiff::Timestamp, i128) {
    const LAST: i64 = 253_000_000_000; // in the year 9987
    const FIRST: i64 = -377_000_000_000; // in the year −9978: no zone has rules so early
    let second = micros.div_euclid(SECOND);
    let cycles = if second > LAST { (second - LAST).div_euclid(CYCLE_SECONDS) + 1 } else { 0 };
    let moved = (second - cycles * CYCLE_SECONDS).max(FIRST);
    let moment = jiff::Timestamp::from_second(moved).expect("the library knows instants from FIRST to LAST");
    (moment, i128::from(cycles) * i128::from(CYCLE_SECONDS) * i128::from(SECOND))
}

fn micros(offset: Offset) -> i64 {
    i64::from(offset.seconds()) * SECOND
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.name == other.name
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

//! Random cases: histories whose records are close to the instants at which clauses flip.

use ports::config_store::true_since;
use segment_engine::time::Timestamp;
use serde_json::{Value as Json, json};

use crate::clauses::{self, Clauses, Dialect};
use crate::edges;
use crate::history::{Case, Step, What};
use crate::lists;
use crate::naive::Segments;
use crate::numbers;
use crate::random::Random;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;

const USERS: usize = 30;
/// The most instants near a record or the end of a window.
const INSTANTS: usize = 6;
/// The most instants, in pairs, at which time alone changes a segment.
const FLIPS: usize = 4;
/// Samples between which such flips are searched.
const SAMPLES: usize = 24;

/// Unusual days: ends of months, leap days, changes of offset in Berlin, New York and Lord Howe.
const ODD_DAYS: [&str; 9] = [
    "2026-01-31",
    "2024-02-29",
    "2026-03-01",
    "2026-03-29",
    "2026-10-25",
    "2026-03-08",
    "2026-11-01",
    "2026-04-05",
    "2025-12-31",
];

/// The approximate lengths of the windows in [`Clauses`]. Records at this distance from each other
/// meet the edges of windows.
const LENGTHS: [i64; 8] = [DAY, 7 * DAY, 14 * DAY, 28 * DAY, 30 * DAY, 31 * DAY, 90 * 60 * SECOND, 36 * HOUR];

/// One case in this many has clauses that PostgreSQL reads too.
const PORTABLE_SHARE: u64 = 4;

/// Returns the case of a seed.
pub(crate) fn case(seed: u64) -> Case {
    let dialect = if seed.is_multiple_of(PORTABLE_SHARE) { Dialect::Portable } else { Dialect::Whole };
    let mut generator = Generator::new(seed, dialect);
    let steps = generator.steps();
    let instants = generator.instants(&steps);
    Case { seed, dialect, steps, instants }
}

struct Generator {
    random: Random,
    dialect: Dialect,
    /// Midnight, in UTC, of the day around which the records are.
    middle: i64,
    /// Instants of earlier records, to use again.
    used: Vec<i64>,
}

impl Generator {
    fn new(seed: u64, dialect: Dialect) -> Generator {
        let mut random = Random::new(seed);
        let day = random.pick(&ODD_DAYS);
        let middle = Timestamp::parse(day).expect("the days are written as dates").0;
        Generator { random, dialect, middle, used: vec![middle] }
    }

    /// Returns an instant that is often close to an edge: at an instant of an earlier record or a
    /// window's length away from one, or a microsecond beside them.
    fn moment(&mut self) -> i64 {
        let near = *self.random.pick(&self.used);
        let moment = match self.random.below(10) {
            0..2 => near,
            2..6 => near + self.random.pick(&LENGTHS) * self.random.between(-1, 1),
            6 => self.middle + self.random.between(-3, 3) * DAY,
            7 => self.middle + self.random.between(-3, 3) * DAY + self.random.between(-26, 26) * HOUR / 2,
            _ => self.middle + self.random.between(-40 * DAY, 40 * DAY),
        };
        let moment = moment + if self.random.chance(50) { 0 } else { self.random.between(-1, 1) };
        self.used.push(moment);
        moment
    }

    fn steps(&mut self) -> Vec<Step> {
        let count = 90 + self.random.below(60);
        let mut times: Vec<i64> = (0..count).map(|_| self.moment()).collect();
        // Many records of one instant.
        for i in 1..count {
            if self.random.chance(15) {
                times[i] = times[i - 1];
            }
        }
        times.sort_unstable();
        let mut tags = Vec::new();
        let mut steps = Vec::new();
        for _ in 0..3 + self.random.below(3) {
            let tag = format!("s{}", tags.len());
            let what = self.definition(tag.clone(), &tags);
            steps.push(Step { at: Timestamp(times[0]), what });
            tags.push(tag);
        }
        for at in times {
            let what = self.record(at, &tags);
            steps.push(Step { at: Timestamp(at), what });
        }
        self.deliver_again(&mut steps);
        steps
    }

    /// Delivers events with an id again, around the end of the time in which that is a duplicate.
    fn deliver_again(&mut self, steps: &mut Vec<Step>) {
        let delays = [0, 1, HOUR, DAY - 1, DAY, DAY + 1];
        for place in 0..steps.len() {
            if matches!(&steps[place].what, What::Event { event_id: Some(_), .. }) && self.random.chance(40) {
                let at = Timestamp(steps[place].at.0 + self.random.pick(&delays));
                steps.push(Step { at, what: steps[place].what.clone() });
            }
        }
        // A stable sort keeps a segment behind those that it names.
        steps.sort_by_key(|step| step.at);
    }

    /// Returns a segment that may refer to earlier ones.
    fn definition(&mut self, tag: String, earlier: &[String]) -> What {
        let middle = Timestamp(*self.random.pick(&self.used)).to_string();
        let mut clauses = Clauses { random: &mut self.random, dialect: self.dialect, tags: earlier.to_vec(), middle };
        What::Segment { tag, clause: Some(clauses.clause()) }
    }

    fn key(&mut self) -> String {
        format!("u{}", self.random.below(USERS))
    }

    fn record(&mut self, at: i64, tags: &[String]) -> What {
        let key = self.key();
        match self.random.below(40) {
            0..27 => self.event(key, at),
            27..33 => self.traits(key, at),
            33..35 => {
                let email = self.random.chance(60).then(|| self.random.text(&clauses::EMAILS));
                let name = self.random.chance(60).then(|| self.random.text(&["Ann", "Bob", "bob"]));
                What::User { key, email, name }
            }
            35 => What::Link { from: key, to: self.key() },
            36 if self.random.chance(40) => {
                // No segment refers to the last one. A later definition brings it back.
                What::Segment { tag: tags[tags.len() - 1].clone(), clause: None }
            }
            36..38 => {
                let number = self.random.below(tags.len());
                self.definition(tags[number].clone(), &tags[..number])
            }
            _ => What::Restart,
        }
    }

    /// Returns a `created_at`, mostly the instant of receipt, else earlier or later.
    fn event(&mut self, key: String, at: i64) -> What {
        let created_at = match self.random.below(10) {
            0..4 => Some(at),
            4 => None,
            _ => Some(self.moment()),
        };
        let odd = self.dialect == Dialect::Whole && self.random.chance(3);
        let created_at = match odd {
            true => Timestamp::parse_iso(&self.random.text(&edges::CREATED)).map(|at| at.0),
            false => created_at,
        };
        let event_id = self.random.chance(25).then(|| format!("e{}", self.random.below(5)));
        let mut payload = json!({ "activity_type": self.random.text(&clauses::ACTIVITIES) });
        let mut fields = json!({});
        let texts: [(&str, &[&str]); 3] =
            [("region", &clauses::REGIONS), ("device_type", &clauses::DEVICES), ("country", &clauses::COUNTRIES)];
        for (field, values) in texts {
            if self.random.chance(80) {
                fields[field] = json!(self.random.text(values));
            }
        }
        let properties: [(&str, usize, &[Json]); 9] = [
            ("url", 60, &clauses::URLS.map(Json::from)),
            (
                "order_total",
                60,
                &[json!(10), json!("9.5"), json!(""), json!("10.000000001"), json!(-3), json!(0), json!(25.5)],
            ),
            ("coupon", 40, &[json!("x"), json!("y"), json!(""), json!(null), json!(5)]),
            ("price", 40, &[json!(9.5), json!("10"), json!("ten"), json!(0), json!("1e1")]),
            ("seats", 40, &[json!(2), json!("3"), json!("1.7"), json!(" 1 "), json!("9999999999")]),
            ("gift", 30, &[json!(true), json!("no"), json!("maybe")]),
            (
                "cart",
                40,
                &[
                    json!({"size": "L"}),
                    json!({"size": "S", "lines": [1, 2.5, "a,b:c"], "id": 7}),
                    json!({"0": "zero"}),
                    json!([]),
                    json!(null),
                ],
            ),
            ("expires", 40, &[json!("2026-02-30"), json!("soon")]),
            ("since", 40, &[json!("later"), json!(1_772_000_000_000_i64), json!(-1), json!("1e30")]),
        ];
        // Sums of these overflow, averages do not. PostgreSQL has longer numbers.
        if self.dialect == Dialect::Whole && self.random.chance(4) {
            payload["order_total"] =
                json!(self.random.text(&["99999999999999999999999999999", "-6e28", "0.000000001"]));
        }
        if self.random.chance(30) {
            payload["period"] = edges::period(&mut self.random);
        }
        if self.random.chance(8) {
            payload["price"] = edges::price(&mut self.random, self.dialect);
        }
        if self.random.chance(60) {
            payload["tags"] = lists::tags(&mut self.random);
        }
        if self.random.chance(40) {
            payload["reading"] = numbers::reading(&mut self.random);
        }
        for (property, percent, values) in properties {
            if self.random.chance(percent) && payload.get(property).is_none() {
                let value = self.random.pick(values).clone();
                let moment = self.moment();
                payload[property] = match property {
                    "expires" if self.random.chance(70) => match self.random.chance(10) {
                        true => json!(format!("{}T24:00:00Z", &Timestamp(moment).to_string()[..10])),
                        false => json!(self.written_moment()),
                    },
                    // A string, since a number in JSON may lose its last digits.
                    "since" if self.random.chance(70) => {
                        json!(format!("{}.{:06}", moment.div_euclid(SECOND), moment.rem_euclid(SECOND)))
                    }
                    _ => value,
                };
            }
        }
        What::Event { key, event_id, created_at: created_at.map(Timestamp), fields, payload }
    }

    /// Returns a time in one of the forms of usual exports, which all sources read.
    fn written_moment(&mut self) -> String {
        let text = Timestamp(self.moment()).to_string();
        let (date, time) = (&text[..10], &text[11..26]);
        let offset = self.random.text(&["Z", "", " UTC", "+0200", "-04", " -0430", "+05:30"]);
        match self.random.below(6) {
            0 => format!("{date} {time}{offset}"),
            1 => format!("{}T{}{offset}", date.replace('-', ""), time.replace(':', "")),
            2 => format!("{date}T{}{offset}", &time[..5]),
            3 => format!("{} {}", date.replace('-', "/"), &time[..8]),
            _ => text,
        }
    }

    fn traits(&mut self, key: String, at: i64) -> What {
        let created_at = if self.random.chance(70) { at } else { self.moment() };
        let mut traits = json!({});
        let known: [(&str, &[Json]); 5] = [
            ("plan", &clauses::PLANS.map(Json::from)),
            ("seats", &[json!(1), json!("2"), json!("many")]),
            ("vip", &[json!(true), json!("false"), json!("perhaps")]),
            ("address", &[json!({"city": "Ulm"}), json!({"city": null}), json!("Ulm")]),
            ("trial_ends", &[json!("never")]),
        ];
        for (name, values) in known {
            if self.random.chance(45) {
                let moment = json!(self.written_moment());
                let value = match name {
                    "trial_ends" if self.random.chance(80) => moment,
                    _ if self.random.chance(12) => Json::Null,
                    _ => self.random.pick(values).clone(),
                };
                traits[name] = value;
            }
        }
        if self.random.chance(50) {
            traits["tags"] = lists::tags(&mut self.random);
        }
        if self.random.chance(50) {
            traits["reading"] = numbers::reading(&mut self.random);
        }
        let created_at = true_since(Timestamp(created_at), Timestamp(at));
        What::Traits { key, created_at, traits }
    }

    /// Returns the instants to compare at: at records, a microsecond beside them, at the end of
    /// windows that they open, and on both sides of the microsecond at which time alone changes a
    /// segment.
    fn instants(&mut self, steps: &[Step]) -> Vec<Timestamp> {
        let first = steps[0].at.0;
        let mut instants: Vec<i64> = Vec::new();
        while instants.len() < INSTANTS {
            let moment = self.moment();
            if moment >= first {
                instants.push(moment);
            }
        }
        for flip in self.flips(steps) {
            instants.extend([flip - 1, flip]);
        }
        instants.sort_unstable();
        instants.dedup();
        instants.into_iter().map(Timestamp).collect()
    }

    /// Returns instants at which the members of a segment differ from those a microsecond before,
    /// without a record. A binary search with the naive interpreter finds them. If the interpreter
    /// is wrong, they are ordinary instants.
    fn flips(&mut self, steps: &[Step]) -> Vec<i64> {
        let (first, last) = (steps[0].at.0, steps.last().map_or(0, |step| step.at.0));
        let mut samples: Vec<i64> = (0..SAMPLES).map(|_| self.random.between(first, last + 120 * DAY)).collect();
        samples.extend(steps.iter().map(|step| step.at.0));
        samples.sort_unstable();
        samples.dedup();
        let instants = samples.iter().copied().map(Timestamp).collect();
        let case = Case { seed: 0, dialect: self.dialect, steps: steps.to_vec(), instants };
        let worlds = case.worlds();
        let mut flips = Vec::new();
        for _ in 0..SAMPLES {
            let place = self.random.below(samples.len() - 1);
            // The next sample may be the instant of a record, so the world is constant only until
            // before it.
            let (world, from, to) = (&worlds[place], samples[place], samples[place + 1] - 1);
            let tags: Vec<&String> = world.segments.keys().collect();
            let tag = *self.random.pick(&tags);
            let Ok(segments) = Segments::of(world) else { continue };
            let members = |at: i64| segments.members(world, tag, Timestamp(at));
            let (mut before, mut after) = (from, to);
            let then = members(before);
            if before >= after || members(after) == then {
                continue;
            }
            while after - before > 1 {
                let middle = before + (after - before) / 2;
                if members(middle) == then { before = middle } else { after = middle }
            }
            flips.push(after);
            if flips.len() == FLIPS {
                break;
            }
        }
        flips
    }
}

//! 1,000 sample events, shaped so that each sample segment gets some members and has some users
//! just short of it.

use ports::records::instant;
use segment_engine::time::Timestamp;
use serde_json::{Value, json};

use fastrand::Rng;

/// How many events there are in all.
pub(crate) const EVENTS: usize = 1_000;
/// How many users get events at most, counting [`super::data::FIRST_USER`].
pub(crate) const USERS_MAX: usize = 100;

const SEED: u64 = 0x5EED_0002;
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How a user's events name the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub id_type: String,
    pub id: String,
}

/// What a user does. Of each group below, only the first is in the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cohort {
    /// In no segment, and not nearly. Gets the events that are left over.
    Regular,
    /// `active_visitor`, and just short of it: last seen 40 to 60 minutes ago.
    Active,
    JustGone,
    /// `area_no_buyers`, and just short of it: bought 25 to 29 days ago.
    Browser,
    Buyer,
    /// `mobile_no_recent_activity`, and just short of it: 9 views; 12 views, but back 6 days ago.
    Away,
    NineViews,
    CameBack,
}

/// How many users of each cohort there are, repeated over all users: three times over 99.
const PATTERN: [(Cohort, usize); 8] = [
    (Cohort::Regular, 10),
    (Cohort::Active, 5),
    (Cohort::JustGone, 2),
    (Cohort::Browser, 5),
    (Cohort::Buyer, 3),
    (Cohort::Away, 4),
    (Cohort::NineViews, 2),
    (Cohort::CameBack, 2),
];

/// One event of a user.
#[derive(Clone, Copy, Debug)]
struct Visit {
    seconds_ago: i64,
    activity: &'static str,
    device: &'static str,
    region: &'static str,
}

/// Returns the events, oldest first, with times relative to `now`; none without users.
pub(crate) fn events(users: &[Identity], now: Timestamp) -> Vec<Value> {
    let pattern: Vec<Cohort> = PATTERN.iter().flat_map(|(cohort, count)| vec![*cohort; *count]).collect();
    let mut rng = Rng::with_seed(SEED);
    let mut visits: Vec<(&Identity, Visit)> = Vec::with_capacity(EVENTS);
    for (user, cohort) in users.iter().zip(pattern.iter().cycle()) {
        visits.extend(history(*cohort, &mut rng).into_iter().map(|visit| (user, visit)));
    }
    let regular = users.iter().step_by(pattern.len());
    let missing = EVENTS.saturating_sub(visits.len());
    visits.extend(regular.cycle().take(missing).map(|user| (user, ordinary(&mut rng, 2 * HOUR, 60 * DAY))));
    visits.sort_by_key(|(_, visit)| std::cmp::Reverse(visit.seconds_ago));
    let newest = visits.len().saturating_sub(EVENTS);
    visits[newest..].iter().zip(1..).map(|((user, visit), number)| event(user, *visit, number, now)).collect()
}

fn history(cohort: Cohort, rng: &mut Rng) -> Vec<Visit> {
    let mut visits = match cohort {
        Cohort::Regular => several(rng, 4, |rng| ordinary(rng, DAY, 60 * DAY)),
        Cohort::Active | Cohort::JustGone => several(rng, 3, |rng| ordinary(rng, 2 * HOUR, 20 * DAY)),
        Cohort::Browser | Cohort::Buyer => several(rng, 4, |rng| Visit {
            region: "California",
            device: "desktop",
            activity: one_of(rng, &["page_viewed", "page_element_clicked"]),
            ..ordinary(rng, 2 * HOUR, 60 * DAY)
        }),
        Cohort::Away => views(rng, 12),
        Cohort::NineViews => views(rng, 9),
        Cohort::CameBack => views(rng, 12),
    };
    visits.extend(deciding(cohort, rng));
    visits
}

/// The visit that decides whether the user is in the segment, if a single one does.
fn deciding(cohort: Cohort, rng: &mut Rng) -> Option<Visit> {
    let seen = |rng: &mut Rng, from, to| ordinary(rng, from, to);
    match cohort {
        Cohort::Regular => Some(seen(rng, DAY, 6 * DAY)),
        Cohort::Active => Some(seen(rng, MINUTE, 20 * MINUTE)),
        Cohort::JustGone => Some(seen(rng, 40 * MINUTE, HOUR)),
        Cohort::Browser => Some(Visit { activity: "product_purchased", ..seen(rng, 31 * DAY, 60 * DAY) }),
        Cohort::Buyer => Some(Visit { activity: "product_purchased", ..seen(rng, 25 * DAY, 29 * DAY) }),
        Cohort::Away | Cohort::NineViews => None,
        Cohort::CameBack => Some(seen(rng, 5 * DAY, 6 * DAY)),
    }
}

fn several(rng: &mut Rng, count: usize, visit: impl Fn(&mut Rng) -> Visit) -> Vec<Visit> {
    (0..count).map(|_| visit(rng)).collect()
}

fn views(rng: &mut Rng, count: usize) -> Vec<Visit> {
    several(rng, count, |rng| Visit { activity: "page_viewed", device: "mobile", ..ordinary(rng, 8 * DAY, 60 * DAY) })
}

/// A visit from anywhere but California, at least `from` and less than `to` seconds ago.
fn ordinary(rng: &mut Rng, from: i64, to: i64) -> Visit {
    Visit {
        seconds_ago: rng.i64(from..to),
        activity: one_of(rng, &["page_viewed", "page_viewed", "page_element_clicked", "product_purchased"]),
        device: one_of(rng, &["mobile", "desktop", "tablet"]),
        region: one_of(rng, &["Texas", "Nevada", "Oregon", "New York", "Florida"]),
    }
}

fn event(user: &Identity, visit: Visit, number: usize, now: Timestamp) -> Value {
    let purchased = visit.activity == "product_purchased";
    let clicked = visit.activity == "page_element_clicked";
    let text = |given: bool, text: String| if given { text } else { String::new() };
    json!({
        "id": user.id,
        "id_type": user.id_type,
        "region": visit.region,
        "device_type": visit.device,
        "country": "US",
        "created_at": instant::format(Timestamp(now.0 - visit.seconds_ago * 1_000_000)),
        "payload": {
            "activity_type": visit.activity,
            "url": format!("https://shop.example/products/{}", number % 40),
            "order_total": text(purchased, format!("{}.{:02}", 5 + number % 95, number % 100)),
            "order_id": text(purchased, format!("sample-order-{number}")),
            "element_id": text(clicked, format!("button-{}", number % 12)),
        },
    })
}

fn one_of<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn users(count: usize) -> Vec<Identity> {
        (0..count).map(|n| Identity { id_type: "cookie".into(), id: n.to_string() }).collect()
    }

    /// What the three segments look at, computed apart from the engine.
    #[derive(Default)]
    struct Facts {
        last_seen: i64,
        californian: bool,
        bought: i64,
        mobile_views: usize,
    }

    fn facts(events: &[Value]) -> BTreeMap<String, Facts> {
        let mut facts: BTreeMap<String, Facts> = BTreeMap::new();
        for event in events {
            let of = facts.entry(event["id"].as_str().unwrap().to_owned()).or_insert_with(|| Facts {
                last_seen: i64::MAX,
                bought: i64::MAX,
                ..Facts::default()
            });
            let at = instant::parse(event["created_at"].as_str().unwrap()).unwrap();
            let ago = (NOW.0 - at.0) / 1_000_000;
            let activity = event["payload"]["activity_type"].as_str().unwrap();
            of.last_seen = of.last_seen.min(ago);
            of.californian |= event["region"] == "California";
            if activity == "product_purchased" {
                of.bought = of.bought.min(ago);
            }
            of.mobile_views += usize::from(activity == "page_viewed" && event["device_type"] == "mobile");
        }
        facts
    }

    #[test]
    fn each_segment_has_members_and_near_misses() {
        let events = events(&users(99), NOW);
        assert_eq!(events.len(), EVENTS);
        let facts = facts(&events);
        let count = |is: &dyn Fn(&Facts) -> bool| facts.values().filter(|facts| is(facts)).count();
        let members = [
            count(&|f| f.last_seen <= 30 * MINUTE),
            count(&|f| f.californian && f.bought > 30 * DAY),
            count(&|f| f.mobile_views >= 10 && f.last_seen > 7 * DAY),
        ];
        assert_eq!(members, [15, 15, 12]);
        let near_misses = [
            count(&|f| (31 * MINUTE..=HOUR).contains(&f.last_seen)),
            count(&|f| f.californian && (25 * DAY..30 * DAY).contains(&f.bought)),
            count(&|f| f.mobile_views == 9 && f.last_seen > 7 * DAY),
            count(&|f| f.mobile_views >= 12 && (5 * DAY..7 * DAY).contains(&f.last_seen)),
        ];
        assert!(near_misses.iter().all(|count| *count >= 3), "{near_misses:?}");
    }

    #[test]
    fn the_events_are_the_same_each_time_and_enough_for_few_users_too() {
        assert_eq!(events(&users(99), NOW), events(&users(99), NOW));
        for count in [1, 2, 33, 34] {
            assert_eq!(events(&users(count), NOW).len(), EVENTS, "{count} users");
        }
        assert!(events(&[], NOW).is_empty());
    }
}

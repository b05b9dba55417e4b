//! Users who are behind: a deadline of many users, or a segment that takes effect for them, and what
//! comes in between.
#![expect(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use ports::log::partition_of;
use ports::records::{Cause, Notification};
use segment_engine::ids::{SegmentId, SegmentVersion, UserId};
use segment_engine::time::Timestamp;
use segment_users::settings::Settings;
use serde_json::{Value, json};
use support::{PARTITIONS, SECOND, World};

const CREATED: &str = "1970-01-01T00:16:40Z";
/// When the windows of all users end.
const WAVE: i64 = 1_010 * SECOND + 1;
const ACTIVE: &str = "count(*) FILTER (WHERE created_at >= now() - INTERVAL '10 seconds') >= 1";
const USERS: i64 = 40;
/// How many notifications a commit has at most.
const COMMIT: usize = 1_024;

/// A world of users whose windows all end at one instant, in partitions that let two users catch up
/// in a turn.
async fn world() -> World {
    let settings = Settings { followers_per_turn_max: 2, ..Settings::default() };
    let mut world = World { settings, ..World::new().await };
    world.restart().await;
    world.segment(1, "active", 1, ACTIVE).await;
    for user in 1..=USERS {
        world.user(user, event(user, CREATED)).await;
    }
    world.run().await;
    world.archive().await;
    world
}

fn event(user: i64, created_at: &str) -> Value {
    json!({"user_id": user, "client_ref_id": format!("client-{user}"), "payload": {}, "created_at": created_at,
        "received_at": ""})
}

fn home(user: i64) -> usize {
    partition_of(UserId(user), PARTITIONS).0 as usize
}

/// Returns cause, entered, left and `effective_at` in microseconds of each user's notifications.
async fn by_user(world: &World) -> BTreeMap<i64, Vec<(Cause, Vec<i64>, Vec<i64>, i64)>> {
    let mut all: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for notification in world.notifications().await {
        let Notification { user_id, sequence, cause, in_segments, out_segments, effective_at, .. } = notification;
        let ids = |segments: Vec<SegmentId>| segments.into_iter().map(|id| id.0).collect();
        let at = ports::records::instant::parse(&effective_at).unwrap().0;
        let theirs = all.entry(user_id.0).or_default();
        theirs.push((cause, ids(in_segments), ids(out_segments), at));
        assert_eq!(sequence, theirs.len() as u64, "user {user_id}");
    }
    all
}

#[tokio::test]
async fn an_event_does_not_wait_for_the_deadlines_of_others() {
    let mut world = world().await;
    world.clock.set(Timestamp(1_020 * SECOND));
    // Of the last users, whose turn would come last.
    let late: BTreeSet<i64> = [USERS, USERS - 1, USERS - 2].into();
    for user in &late {
        world.user(*user, event(*user, "1970-01-01T00:17:00Z")).await;
    }
    for partition in &mut world.partitions {
        assert!(partition.turn().await.unwrap().more, "others are behind");
        assert!(partition.progress().settled() < Timestamp(WAVE));
    }
    let told = by_user(&world).await;
    for user in &late {
        assert_eq!(told[user].len(), 3, "left by time, and entered by the event, in the first turn");
        assert_eq!(told[user][1], (Cause::Time, vec![], vec![1], WAVE));
        assert_eq!((told[user][2].0, &told[user][2].1), (Cause::Event, &vec![1]));
    }
    let behind = told.values().filter(|theirs| theirs.len() == 1).count();
    assert!(behind >= USERS as usize - 3 - 2 * 2, "{behind} are behind");
    world.run().await;
    for (user, theirs) in by_user(&world).await.into_iter().filter(|(user, _)| !late.contains(user)) {
        assert_eq!(theirs[1..], [(Cause::Time, vec![], vec![1], WAVE)], "user {user}");
    }
}

#[tokio::test]
async fn records_wait_while_the_changes_of_others_fill_a_commit() {
    let settings = Settings { batch_bytes_max: 300 << 10, ..Settings::default() };
    let mut world = World { settings, ..World::new().await };
    world.restart().await;
    world.segment(1, "active", 1, ACTIVE).await;
    let users: Vec<i64> = (1..20_000).filter(|user| home(*user) == 0).collect();
    for user in &users {
        world.user(*user, event(*user, CREATED)).await;
    }
    let (mut untold, mut told, mut largest) = (0, 0, 0);
    while told < users.len() {
        let turn = world.partitions[0].turn().await.unwrap();
        assert!(turn.records == 0 || untold < COMMIT, "{untold} changes wait, and {} more came", turn.records);
        untold = untold + turn.records - turn.notifications;
        told += turn.notifications;
        largest = largest.max(turn.records);
    }
    assert!(largest > COMMIT, "a batch has more changes than a commit takes");
    assert_eq!(by_user(&world).await.len(), users.len());
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_wave_leaves_nothing_out_and_repeats_nothing() {
    for turns in 0..8 {
        for checkpoint in [false, true] {
            let mut world = world().await;
            world.clock.set(Timestamp(1_020 * SECOND));
            world.user(USERS, event(USERS, "1970-01-01T00:17:00Z")).await;
            for partition in &mut world.partitions {
                for _ in 0..turns {
                    partition.turn().await.unwrap();
                }
                partition.checkpoint_if_due().await.unwrap();
                if checkpoint {
                    partition.checkpoint().await.unwrap();
                }
            }
            world.restart().await;
            world.run().await;
            for (user, theirs) in by_user(&world).await {
                let mut expected = vec![(Cause::Time, vec![], vec![1], WAVE)];
                if user == USERS {
                    expected.push((Cause::Event, vec![1], vec![], theirs[2].3));
                }
                assert_eq!(theirs[1..], expected, "user {user}, {turns} turns");
            }
        }
    }
}

/// Defines two segments that need the history, and reads it, until they are about to take effect.
async fn two_are_ready(world: &mut World) {
    for id in [2, 3] {
        let clause = format!("count(*) FILTER (WHERE url IS NULL OR url = '{id}') >= 1");
        let record = json!({"type": "segment", "id": id, "tag": format!("s{id}"), "version": 1,
            "where_statement": clause, "manual": false});
        world.append(ports::log::Topic::Config, segment_engine::ids::PartitionId::ONLY, "", &record).await;
    }
    segment_users::definitions::relay(&world.ports.log).await.unwrap();
    for partition in &mut world.partitions {
        while partition.turn().await.unwrap().more {}
    }
    world.archive().await;
    for partition in &mut world.partitions {
        while partition.backfill_step().await.unwrap() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn segments_take_effect_for_a_few_users_at_a_time_and_for_each_at_once() {
    let mut world = world().await;
    two_are_ready(&mut world).await;
    let last = (1..=USERS).rev().find(|user| home(*user) == 0).unwrap();
    // The first turn applies `segment_ready`.
    assert!(world.partitions[0].turn().await.unwrap().more);
    let progress = |world: &World| world.partitions[0].segment_progress(SegmentId(3), SegmentVersion(1)).unwrap();
    assert!((0.9..1.0).contains(&progress(&world)), "{}", progress(&world));
    world.user(last, event(last, CREATED)).await;
    world.partitions[0].turn().await.unwrap();
    let told = by_user(&world).await;
    assert_eq!(told[&last].len(), 2, "the event brought the user up, and changed nothing else");
    assert!(told.values().filter(|theirs| theirs.len() == 2).count() < 8);
    let mut before = 0.0;
    while progress(&world) < 1.0 {
        assert!(progress(&world) >= before);
        before = progress(&world);
        world.partitions[0].turn().await.unwrap();
    }
    world.run().await;
    for (user, theirs) in by_user(&world).await {
        let [_, (cause, entered, left, _)] = &theirs[..] else { panic!("user {user}: {theirs:?}") };
        assert_eq!((*cause, &entered[..], &left[..]), (Cause::Backfill, &[2, 3][..], &[][..]), "both in one");
    }
}

#[tokio::test]
async fn a_crash_while_segments_take_effect_leaves_nothing_out_and_repeats_nothing() {
    for turns in 0..12 {
        let mut world = world().await;
        two_are_ready(&mut world).await;
        for partition in &mut world.partitions {
            for _ in 0..turns {
                partition.turn().await.unwrap();
            }
        }
        world.restart().await;
        world.run().await;
        for (user, theirs) in by_user(&world).await {
            let causes: Vec<_> = theirs.iter().map(|(cause, entered, ..)| (*cause, entered.clone())).collect();
            assert_eq!(causes[1..], [(Cause::Backfill, vec![2, 3])], "user {user}, {turns} turns");
        }
    }
}

#[tokio::test]
async fn a_segment_that_changes_meanwhile_waits_for_those_who_are_behind() {
    let mut world = world().await;
    two_are_ready(&mut world).await;
    for partition in &mut world.partitions {
        partition.turn().await.unwrap();
    }
    // Nobody skips the old version, although the new one takes effect at once.
    world.segment(2, "s2", 2, "count(*) FILTER (WHERE url IS NULL OR url = '3') >= 2").await;
    for (user, theirs) in by_user(&world).await {
        let changes: Vec<_> = theirs.iter().map(|(cause, entered, left, _)| (*cause, entered, left)).collect();
        let (both, two) = (vec![2, 3], vec![2]);
        assert_eq!(changes[1..], [(Cause::Backfill, &both, &vec![]), (Cause::Edit, &vec![], &two)], "user {user}");
    }
}

#[tokio::test]
async fn a_user_who_is_behind_comes_up_before_they_are_restored() {
    let mut world = world().await;
    world.clock.set(Timestamp(1_020 * SECOND));
    for partition in &mut world.partitions {
        assert!(partition.turn().await.unwrap().more, "others are behind");
    }
    for user in 1..=USERS {
        world.user(user, json!({"type": "restored", "user_id": user, "segments": null, "sequence": 1})).await;
    }
    world.run().await;
    for (user, theirs) in by_user(&world).await {
        assert_eq!(theirs[1..], [(Cause::Time, vec![], vec![1], WAVE)], "user {user}");
    }
}

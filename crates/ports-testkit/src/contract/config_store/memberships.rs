//! Memberships: those that the engine computes, and manual segments.

use segment_engine::ids::{PartitionId, SegmentId, UserId};

use super::{Store, at, clause, code, key, user};
use ports::config_store::{Applied, Link, Membership, MembershipBatch, MembershipChange, Page, SegmentKind, Survivor};

fn ids(segments: &[i64]) -> Vec<SegmentId> {
    segments.iter().copied().map(SegmentId).collect()
}

fn change(user: i64, entered: &[i64], left: &[i64], seconds: i64) -> MembershipChange {
    MembershipChange { user_id: UserId(user), entered: ids(entered), left: ids(left), effective_at: at(seconds) }
}

async fn segments_of(store: &Store, user: i64) -> Vec<SegmentId> {
    store.user(UserId(user)).await.unwrap().unwrap().segments.iter().map(|m| m.segment_id).collect()
}

pub(super) async fn a_batch_is_applied_once(store: Store) {
    for (id, tag) in [("x", "one"), ("y", "two")] {
        user(&store, id).await;
        store.create_segment(clause(tag, SegmentKind::Computed, &[]), at(1)).await.unwrap();
    }
    let changes =
        vec![change(1, &[1, 2], &[], 10), change(2, &[1], &[], 11), change(1, &[], &[2], 12), change(1, &[2], &[], 13)];
    let batch = MembershipBatch { partition: PartitionId(3), from: 0, to: 40, changes };
    assert_eq!(store.apply_memberships(batch.clone()).await.unwrap(), Applied::Now);
    let next = MembershipBatch { partition: PartitionId(3), from: 40, to: 50, changes: vec![change(1, &[], &[1], 14)] };
    assert_eq!(store.apply_memberships(next.clone()).await.unwrap(), Applied::Now);
    for repeated in [batch, next] {
        assert_eq!(store.apply_memberships(repeated).await.unwrap(), Applied::Before(50));
    }
    for (from, to) in [(60, 70), (45, 55)] {
        let gap = MembershipBatch { partition: PartitionId(3), from, to, changes: Vec::new() };
        assert_eq!(code(store.apply_memberships(gap).await.unwrap_err()), "MEMBERSHIP_POSITION");
    }
    let own = MembershipBatch { partition: PartitionId(0), from: 0, to: 7, changes: Vec::new() };
    store.apply_memberships(own).await.unwrap();
    assert_eq!(store.membership_positions().await.unwrap(), [(PartitionId(0), 7), (PartitionId(3), 50)]);

    let user = store.user(UserId(1)).await.unwrap().unwrap();
    let expected = Membership { user_id: UserId(1), segment_id: SegmentId(2), created_at: at(13), updated_at: at(13) };
    assert_eq!(user.segments, [expected]);
    let members = store.members(SegmentId(1), Page::ALL).await.unwrap();
    assert_eq!(members.iter().map(|m| (m.user.id.0, m.membership.created_at)).collect::<Vec<_>>(), [(2, at(11))]);
    assert_eq!(members[0].user.segments.len(), 1);
    assert_eq!(code(store.members(SegmentId(9), Page::ALL).await.unwrap_err()), "NOT_FOUND");
    store.delete_segment(SegmentId(2)).await.unwrap();
    assert!(segments_of(&store, 1).await.is_empty());
    store.delete_user(UserId(2)).await.unwrap();
    assert_eq!(store.count_members(SegmentId(1)).await.unwrap(), 0);
}

pub(super) async fn a_large_batch_is_applied(store: Store) {
    const USERS: i64 = 6_000;
    for tag in ["one", "two"] {
        store.create_segment(clause(tag, SegmentKind::Computed, &[]), at(1)).await.unwrap();
    }
    let new =
        (0..USERS).map(|id| ports::config_store::NewUser { client_ref_id: Some(id.to_string()), ..Default::default() });
    assert_eq!(store.ensure_users(new.collect(), at(1)).await.unwrap(), 6_000);
    let enter = (1..=USERS).map(|id| change(id, &[1, 2], &[], id)).collect();
    store
        .apply_memberships(MembershipBatch { partition: PartitionId(0), from: 0, to: 1, changes: enter })
        .await
        .unwrap();
    let leave = (1..=USERS).filter(|id| id % 4 != 0).map(|id| change(id, &[], &[2], id)).collect();
    store
        .apply_memberships(MembershipBatch { partition: PartitionId(0), from: 1, to: 2, changes: leave })
        .await
        .unwrap();
    assert_eq!(store.count_members(SegmentId(1)).await.unwrap(), 6_000);
    let members = store.members(SegmentId(2), Page { after: 400, limit: 3 }).await.unwrap();
    assert_eq!(members.iter().map(|m| m.user.id.0).collect::<Vec<_>>(), [404, 408, 412]);
    assert_eq!(store.count_members(SegmentId(2)).await.unwrap(), 1_500);
}

pub(super) async fn the_last_change_of_a_batch_counts(store: Store) {
    for tag in ["one", "two", "three"] {
        store.create_segment(clause(tag, SegmentKind::Computed, &[]), at(1)).await.unwrap();
    }
    let ids: Vec<i64> = user_ids(&store, 6).await;
    let [entered, gone, back, moved, kept, never] = ids[..] else { panic!("six users") };
    let batch = |from, changes| MembershipBatch { partition: PartitionId(1), from, to: from + 1, changes };
    let before = [gone, back, moved, kept].map(|id| change(id, &[1], &[], 5)).into();
    store.apply_memberships(batch(0, before)).await.unwrap();
    let changes = vec![
        change(entered, &[1], &[], -10),
        change(back, &[], &[1], 20),
        change(gone, &[], &[1], 20),
        change(never, &[2], &[], 20),
        change(moved, &[2, 3], &[1], 20),
        change(gone, &[1], &[], 21),
        change(back, &[1], &[], 22),
        change(moved, &[1], &[3, 2], 22),
        change(gone, &[], &[1], 23),
        change(never, &[], &[2], 23),
        change(never, &[], &[3], 24),
        // A user who leaves and enters in one change is in.
        change(entered, &[1], &[1], -9),
    ];
    store.apply_memberships(batch(1, changes)).await.unwrap();
    store.apply_memberships(batch(2, Vec::new())).await.unwrap();
    let members = store.members(SegmentId(1), Page::ALL).await.unwrap();
    let members: Vec<_> =
        members.iter().map(|m| (m.user.id.0, m.membership.created_at, m.membership.updated_at)).collect();
    let since = |id, seconds| (id, at(seconds), at(seconds));
    assert_eq!(members, [since(entered, -9), since(back, 22), since(moved, 22), since(kept, 5)]);
    for segment in [2, 3] {
        assert_eq!(store.count_members(SegmentId(segment)).await.unwrap(), 0, "{segment}");
    }
}

/// Creates users, and returns their ids in order.
async fn user_ids(store: &Store, count: usize) -> Vec<i64> {
    let mut ids = Vec::new();
    for name in 0..count {
        ids.push(user(store, &format!("u{name}")).await.id.0);
    }
    ids
}

pub(super) async fn batches_of_many_partitions_do_not_mix(store: Store) {
    const PARTITIONS: u32 = 8;
    store.create_segment(clause("one", SegmentKind::Computed, &[]), at(1)).await.unwrap();
    let ids = user_ids(&store, PARTITIONS as usize).await;
    // All enter, leave, and enter; then every other one enters anew, and the others leave.
    for round in 0..4 {
        let batches = (0..PARTITIONS).flat_map(|partition| {
            let id = ids[partition as usize];
            let is_member = if round == 3 { partition % 2 == 0 } else { round != 1 };
            let changes = vec![match is_member {
                true => change(id, &[1], &[], 100 + round),
                false => change(id, &[], &[1], 100 + round),
            }];
            let partition = PartitionId(partition);
            let from = round.unsigned_abs() * 10;
            // The same batch twice, and one that leaves a gap.
            let batch = MembershipBatch { partition, from, to: from + 10, changes };
            let gap = MembershipBatch { from: from + 20, to: from + 30, ..batch.clone() };
            [batch.clone(), gap, batch]
        });
        let calls: Vec<_> = batches
            .map(|batch| {
                let store = store.clone();
                tokio::spawn(async move { (batch.partition, batch.from, store.apply_memberships(batch).await) })
            })
            .collect();
        let mut written = 0;
        for call in calls {
            let (partition, from, outcome) = call.await.unwrap();
            match outcome {
                Ok(Applied::Now) => written += 1,
                Ok(Applied::Before(position)) => assert_eq!(position, from + 10, "{partition}"),
                Err(error) => assert_eq!(code(error), "MEMBERSHIP_POSITION"),
            }
        }
        assert_eq!(written, PARTITIONS, "each once");
    }
    let positions = store.membership_positions().await.unwrap();
    assert_eq!(positions, (0..PARTITIONS).map(|partition| (PartitionId(partition), 40)).collect::<Vec<_>>());
    let members = store.members(SegmentId(1), Page::ALL).await.unwrap();
    let expected: Vec<i64> = ids.iter().copied().step_by(2).collect();
    assert_eq!(members.iter().map(|m| m.user.id.0).collect::<Vec<_>>(), expected);
    assert!(members.iter().all(|m| m.membership.created_at == at(103)));
}

pub(super) async fn manual_segments_are_set(store: Store) {
    user(&store, "x").await;
    for (tag, kind) in
        [("vip", SegmentKind::Manual), ("computed", SegmentKind::Computed), ("beta", SegmentKind::Manual)]
    {
        store.create_segment(clause(tag, kind, &[]), at(1)).await.unwrap();
    }
    let engine = MembershipBatch { partition: PartitionId(0), from: 0, to: 1, changes: vec![change(1, &[2], &[], 2)] };
    store.apply_memberships(engine).await.unwrap();
    // Ids in the call, ids ignored, memberships afterwards.
    let cases: [(&[i64], &[i64], &[i64]); 4] =
        [(&[3, 1, 2, 9, 1], &[2, 9], &[1, 2, 3]), (&[3], &[], &[2, 3]), (&[2], &[2], &[2]), (&[1], &[], &[1, 2])];
    for (called, ignored, after) in cases {
        let set = store.set_manual_memberships(UserId(1), &ids(called), at(3)).await.unwrap();
        assert_eq!((set.ignored, segments_of(&store, 1).await), (ids(ignored), ids(after)), "{called:?}");
    }
    assert_eq!(code(store.set_manual_memberships(UserId(9), &[], at(4)).await.unwrap_err()), "NOT_FOUND");
}

pub(super) async fn manual_segments_survive_merges(store: Store) {
    let (one, two) = (user(&store, "x").await.id, user(&store, "y").await.id);
    for tag in ["vip", "beta"] {
        store.create_segment(clause(tag, SegmentKind::Manual, &[]), at(1)).await.unwrap();
    }
    store.set_manual_memberships(one, &[SegmentId(1)], at(2)).await.unwrap();
    store.set_manual_memberships(two, &[SegmentId(2)], at(2)).await.unwrap();
    let link = Link { from: key("c", "x"), to: key("c", "y"), survivor: Survivor::Older };
    store.link(link, at(3)).await.unwrap();
    assert_eq!(segments_of(&store, one.0).await, ids(&[1, 2]));
    let members: Vec<i64> = store.members(SegmentId(2), Page::ALL).await.unwrap().iter().map(|m| m.user.id.0).collect();
    assert_eq!(members, [one.0], "the absorbed user is a member of nothing");
}

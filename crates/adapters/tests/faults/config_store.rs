//! The config store under faults: every kind of write.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::sql::SqlConfigStore;
use ports::config_store::{
    ActivityChange, ActivityStore, ConfigStore, ConfigStoreError, IdentityKey, IdentityRules, IdentityStore, Link,
    MembershipBatch, MembershipChange, MembershipStore, NewActivity, NewSegment, NewUser, Outbox, Page, SegmentChange,
    SegmentKind, SegmentStore, Survivor, TraitStore, Unknown, UserChange, UserStore,
};
use ports::records::json_text::JsonText;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::time::Timestamp;

use super::{Case, copy, disk, each_case};

const NOW: Timestamp = Timestamp(7_000_000);

/// The writes of the port.
const WRITES: [&str; 20] = [
    "create_user",
    "ensure_users",
    "update_user",
    "delete_user",
    "attach_identity",
    "link that attaches",
    "link that merges",
    "resolve that creates",
    "set_traits",
    "create_activity",
    "update_activity",
    "delete_activity",
    "link_activity",
    "unlink_activity",
    "create_segment",
    "update_segment",
    "delete_segment",
    "set_manual_memberships",
    "apply_memberships",
    "outbox_sent",
];

async fn open(folder: &Path) -> SqlConfigStore {
    SqlConfigStore::open_sqlite(&folder.join("config.sqlite"), IdentityRules::default()).await.unwrap()
}

fn key(id: &str) -> IdentityKey {
    IdentityKey { id_type: "cookie".to_owned(), id: id.to_owned() }
}

fn user(client_id: &str) -> NewUser {
    // Long enough to need pages of its own.
    NewUser { client_ref_id: Some(client_id.to_owned()), name: Some("x".repeat(9_000)), email: None }
}

fn segment(tag: &str, kind: SegmentKind) -> NewSegment {
    let (title, where_statement) = (tag.to_owned(), String::new());
    NewSegment { title, description: None, tag: tag.to_owned(), where_statement, is_generic: false, kind, uses: vec![] }
}

fn traits(text: &str) -> BTreeMap<String, JsonText> {
    serde_json::from_str(text).unwrap()
}

fn batch(from: u64, to: u64, entered: &[i64]) -> MembershipBatch {
    let change = |user| MembershipChange {
        user_id: UserId(user),
        entered: entered.iter().copied().map(SegmentId).collect(),
        left: vec![],
        effective_at: NOW,
    };
    MembershipBatch { partition: PartitionId(1), from, to, changes: (1..=3).map(change).collect() }
}

/// Fills every table.
async fn fill(store: &SqlConfigStore) -> Result<(), ConfigStoreError> {
    for name in ["a", "b", "c"] {
        let id = store.create_user(user(name), NOW).await?.id;
        store.attach_identity(id, key(&format!("{name} too")), NOW).await?;
        store.set_traits(id, traits(r#"{"plan": "free"}"#), NOW).await?;
    }
    store.create_segment(segment("computed", SegmentKind::Computed), NOW).await?;
    store.create_segment(segment("by hand", SegmentKind::Manual), NOW).await?;
    store.set_manual_memberships(UserId(2), &[SegmentId(2)], NOW).await?;
    let new = NewActivity { title: "Seen".to_owned(), description: None, code: "seen".to_owned() };
    store.create_activity(new, NOW).await?;
    store.link_activity(1, SegmentId(1)).await?;
    store.apply_memberships(batch(0, 5, &[1])).await?;
    Ok(())
}

async fn write(store: &SqlConfigStore, what: &str) -> Result<(), ConfigStoreError> {
    match what {
        "create_user" => store.create_user(user("new"), NOW).await.map(drop),
        "ensure_users" => store.ensure_users(vec![user("a"), user("new")], NOW).await.map(drop),
        "update_user" => {
            let change = UserChange { name: Some(Some("y".repeat(9_000))), ..UserChange::default() };
            store.update_user(UserId(1), change, NOW).await.map(drop)
        }
        "delete_user" => store.delete_user(UserId(1)).await.map(drop),
        "attach_identity" => store.attach_identity(UserId(1), key("new"), NOW).await.map(drop),
        "link that attaches" | "link that merges" => {
            let to = if what == "link that merges" { "b" } else { "new" };
            store.link(Link { from: key("a"), to: key(to), survivor: Survivor::Older }, NOW).await.map(drop)
        }
        "resolve that creates" => store.resolve(&[key("new"), key("a")], Unknown::Create, NOW).await.map(drop),
        "set_traits" => store.set_traits(UserId(1), traits(r#"{"plan": "pro", "seats": 3}"#), NOW).await.map(drop),
        "create_activity" => {
            let new = NewActivity { title: "New".to_owned(), description: None, code: "new".to_owned() };
            store.create_activity(new, NOW).await.map(drop)
        }
        "update_activity" => {
            let change = ActivityChange { title: Some("New".to_owned()), ..ActivityChange::default() };
            store.update_activity(1, change, NOW).await.map(drop)
        }
        "delete_activity" => store.delete_activity(1).await,
        "link_activity" => store.link_activity(1, SegmentId(2)).await,
        "unlink_activity" => store.unlink_activity(1, SegmentId(1)).await,
        "create_segment" => store.create_segment(segment("new", SegmentKind::Computed), NOW).await.map(drop),
        "update_segment" => {
            let change = SegmentChange { tag: Some("new".to_owned()), ..SegmentChange::default() };
            store.update_segment(SegmentId(1), change, NOW).await.map(drop)
        }
        "delete_segment" => store.delete_segment(SegmentId(1)).await,
        "set_manual_memberships" => store.set_manual_memberships(UserId(1), &[SegmentId(2)], NOW).await.map(drop),
        "apply_memberships" => store.apply_memberships(batch(5, 9, &[1, 2])).await.map(drop),
        "outbox_sent" => store.outbox_sent(4).await,
        other => panic!("{other}"),
    }
}

/// Returns everything that can be read.
async fn seen(store: &SqlConfigStore) -> Result<Vec<String>, ConfigStoreError> {
    let mut seen = Vec::new();
    for user in store.users(Page::ALL).await? {
        seen.push(format!("{:?} {:?}", store.identities(user.id).await?, store.traits(user.id).await?));
        seen.push(format!("{user:?}"));
    }
    for segment in store.segments(Page::ALL).await? {
        seen.push(format!("{segment:?} {:?}", store.activities_of(segment.id).await?));
    }
    seen.push(format!("{:?}", store.activities(Page::ALL).await?));
    seen.push(format!("{:?}", store.membership_positions().await?));
    seen.push(format!("{:?}", store.outbox(0, 1_000).await?));
    Ok(seen)
}

/// Returns the contents after a write and one more, on a working disk.
async fn expected(template: &Path, what: Option<&str>) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    copy(template, folder.path());
    let store = open(folder.path()).await;
    if let Some(what) = what {
        write(&store, what).await.unwrap();
    }
    store.create_user(user("afterwards"), NOW).await.unwrap();
    seen(&store).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_acknowledged_writes_of_the_config_store_are_there_after_a_restart() {
    let template = tempfile::tempdir().unwrap();
    let store = open(template.path()).await;
    fill(&store).await.unwrap();
    // A store that is only dropped goes on closing its files.
    store.close().await.unwrap();
    let refused = expected(template.path(), None).await;
    for what in WRITES {
        let written = expected(template.path(), Some(what)).await;
        assert_ne!(written, refused, "{what} writes something");
        let cases = each_case(async |case| run(template.path(), what, case, &written, &refused).await).await;
        assert!(cases >= 4, "{what} writes and syncs, so each fault must make a call fail: {cases}");
    }
}

/// One write under a fault, then one without. Returns how many system calls failed.
async fn run(template: &Path, what: &str, case: Case, written: &[String], refused: &[String]) -> usize {
    let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    copy(template, folder.path());
    let store = open(folder.path()).await;
    let failing = disk::fail(folder.path(), case.fault, case.passes, case.lasts);
    let result = write(&store, what).await;
    let healthy = store.ping().await;
    let failed = failing.failed();
    drop(failing);
    assert!(result.is_ok() || failed > 0, "{what}: {result:?}");
    if let Err(error) = &result {
        assert!(matches!(error, ConfigStoreError::Unavailable(_)), "{what}, {case:?}: {error:?}");
        assert!(
            !case.lasts || healthy.is_err(),
            "{what}, {case:?}: the health check shows that the store cannot write"
        );
    }
    assert!(store.ping().await.is_ok(), "{what}, {case:?}: the store works again");
    store.create_user(user("afterwards"), NOW).await.unwrap_or_else(|error| panic!("{what}, {case:?}: {error}"));
    let expected = if result.is_ok() { written } else { refused };
    assert_eq!(seen(&store).await.unwrap(), expected, "{what}, {case:?}: {result:?}");
    copy(folder.path(), crashed.path());
    assert_eq!(seen(&open(crashed.path()).await).await.unwrap(), expected, "{what}, {case:?}: after a crash");
    drop(store);
    assert_eq!(seen(&open(folder.path()).await).await.unwrap(), expected, "{what}, {case:?}: after a restart");
    failed
}

/// Returns a config store that was left by a killed build without checksums.
fn store_of_an_earlier_build() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("../uss/tests/data_folders/killed.tar.gz");
    let unpacked = std::process::Command::new("tar").arg("xzf").arg(archive).arg("-C").arg(folder.path()).status();
    assert!(unpacked.unwrap().success());
    let kept = tempfile::tempdir().unwrap();
    for name in ["config.sqlite", "config.sqlite-wal"] {
        let file = folder.path().join(name);
        if file.exists() {
            std::fs::copy(file, kept.path().join(name)).unwrap();
        }
    }
    kept
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_an_earlier_build_survives_a_failure_while_it_gets_checksums() {
    let template = store_of_an_earlier_build();
    let reserved = |folder: &Path| std::fs::read(folder.join("config.sqlite")).unwrap()[20];
    assert_eq!(reserved(template.path()), 0);
    let expected = {
        let folder = tempfile::tempdir().unwrap();
        copy(template.path(), folder.path());
        seen(&open(folder.path()).await).await.unwrap()
    };
    assert!(expected.len() > 10);
    let cases = each_case(async |case| {
        let folder = tempfile::tempdir().unwrap();
        copy(template.path(), folder.path());
        let failing = disk::fail(folder.path(), case.fault, case.passes, case.lasts);
        let file = folder.path().join("config.sqlite");
        let opened = SqlConfigStore::open_sqlite(&file, IdentityRules::default()).await;
        let failed = failing.failed();
        let crashed = tempfile::tempdir().unwrap();
        // As if killed here, without closing anything. A store that failed to open is already being
        // closed.
        let found = if opened.is_ok() { crashed.path() } else { folder.path() };
        if opened.is_ok() {
            copy(folder.path(), found);
        }
        drop((failing, opened));
        assert_eq!(seen(&open(found).await).await.unwrap(), expected, "{case:?}");
        assert_eq!(reserved(found), 8, "{case:?}");
        failed
    })
    .await;
    assert!(cases > 20, "{cases}");
}

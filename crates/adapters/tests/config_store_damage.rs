//! A damaged config store is refused, or reads as if it were intact: with bytes flipped, zeroed,
//! swapped or missing anywhere in its pages.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;

use adapters::sql::{SqlConfigStore, VFS};
use ports::config_store::{
    ActivityStore, ConfigStore, ConfigStoreError, IdentityKey, IdentityRules, IdentityStore, MembershipBatch,
    MembershipChange, MembershipStore, NewActivity, NewSegment, NewUser, Outbox, Page, SegmentKind, SegmentStore,
    TraitStore, Unknown, UserStore,
};
use ports::records::json_text::JsonText;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, Statement};
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::time::Timestamp;

const PAGE: usize = 4096;
const USERS: i64 = 80;
const NOW: Timestamp = Timestamp(7_000_000);

async fn open(file: &Path) -> Result<SqlConfigStore, ConfigStoreError> {
    SqlConfigStore::open_sqlite(file, IdentityRules::default()).await
}

fn cookie(user: i64) -> IdentityKey {
    IdentityKey { id_type: "cookie".to_owned(), id: format!("cookie {user}") }
}

/// Fills every table, with some rows longer than a page, and leaves free pages.
async fn fill(store: &SqlConfigStore) {
    for number in 1..=USERS {
        let (client, email) = (format!("client {number}"), format!("user{number}@example.com"));
        let new = NewUser { client_ref_id: Some(client), name: Some("n".repeat(40)), email: Some(email) };
        let user = store.create_user(new, NOW).await.unwrap().id;
        store.attach_identity(user, cookie(number), NOW).await.unwrap();
        let length = if number % 10 == 0 { 20_000 } else { 100 };
        let text = format!(r#"{{"plan": "free", "note": "{}"}}"#, "t".repeat(length));
        let traits: BTreeMap<String, JsonText> = serde_json::from_str(&text).unwrap();
        store.set_traits(user, traits, NOW).await.unwrap();
    }
    for (tag, kind) in [("computed", SegmentKind::Computed), ("by hand", SegmentKind::Manual)] {
        let (title, where_statement) = (tag.to_owned(), "count(*) > 3".to_owned());
        let tag = tag.to_owned();
        let new = NewSegment { title, description: None, tag, where_statement, is_generic: false, kind, uses: vec![] };
        store.create_segment(new, NOW).await.unwrap();
    }
    store.set_manual_memberships(UserId(2), &[SegmentId(2)], NOW).await.unwrap();
    let new = NewActivity { title: "Seen".to_owned(), description: None, code: "seen".to_owned() };
    store.create_activity(new, NOW).await.unwrap();
    store.link_activity(1, SegmentId(1)).await.unwrap();
    let change = |user| MembershipChange {
        user_id: UserId(user),
        entered: vec![SegmentId(1)],
        left: vec![],
        effective_at: Timestamp(user),
    };
    let batch =
        MembershipBatch { partition: PartitionId(1), from: 0, to: 9, changes: (1..=USERS).map(change).collect() };
    store.apply_memberships(batch).await.unwrap();
    for user in 30..40 {
        store.delete_user(UserId(user)).await.unwrap();
    }
    store.outbox_sent(store.outbox_end().await.unwrap() - 100).await.unwrap();
}

/// Returns everything that can be read, by every kind of look-up.
async fn seen(store: &SqlConfigStore) -> Result<Vec<String>, ConfigStoreError> {
    let mut seen = vec![format!("{:?}", store.last_ids().await?)];
    for number in 1..=USERS {
        let Some(user) = store.user(UserId(number)).await? else {
            seen.push(format!("no user {number}"));
            continue;
        };
        seen.push(format!("{user:?} {:?} {:?}", store.identities(user.id).await?, store.traits(user.id).await?));
    }
    let keys: Vec<IdentityKey> = (1..=USERS).map(cookie).collect();
    seen.push(format!("{:?}", store.resolve(&keys, Unknown::Reject, NOW).await?.owners));
    seen.push(format!("{:?}", store.users(Page::ALL).await?));
    for segment in store.segments(Page::ALL).await? {
        seen.push(format!("{segment:?} {:?}", store.activities_of(segment.id).await?));
        seen.push(format!("{:?}", store.members(segment.id, Page::ALL).await?));
        seen.push(format!("{}", store.count_members(segment.id).await?));
    }
    seen.push(format!("{:?} {:?}", store.activities(Page::ALL).await?, store.membership_positions().await?));
    seen.push(format!("{:?}", store.outbox(0, 10_000).await?));
    Ok(seen)
}

/// Returns the bytes of a filled, closed file, and everything that can be read from it.
async fn whole(folder: &Path) -> (Vec<u8>, Vec<String>) {
    let file = folder.join("whole.sqlite");
    let store = open(&file).await.unwrap();
    fill(&store).await;
    let contents = seen(&store).await.unwrap();
    store.close().await.unwrap();
    assert!(!folder.join("whole.sqlite-wal").exists());
    (std::fs::read(file).unwrap(), contents)
}

/// SplitMix64, after Steele, Lea and Flood: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % bound
    }
}

const KINDS: [&str; 6] = ["flip", "zero", "swap bytes", "swap pages", "repeat a page", "cut"];

/// Damages `page` of the file.
fn damage(bytes: &mut Vec<u8>, page: usize, kind: &str, random: &mut Random) {
    let pages = bytes.len() / PAGE;
    let at = page * PAGE + random.below(PAGE);
    let other = random.below(pages);
    match kind {
        "flip" => bytes[at] ^= 1 << random.below(8),
        "zero" => {
            let end = (at + 1 + random.below(PAGE)).min(bytes.len());
            bytes[at..end].fill(0);
        }
        "swap bytes" => bytes.swap(at, page * PAGE + random.below(PAGE)),
        "swap pages" => (0..PAGE).for_each(|byte| bytes.swap(page * PAGE + byte, other * PAGE + byte)),
        "repeat a page" => bytes.copy_within(other * PAGE..(other + 1) * PAGE, page * PAGE),
        "cut" => bytes.truncate(if random.below(2) == 0 { page * PAGE } else { at }),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_damaged_page_is_refused_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, expected) = whole(folder.path()).await;
    let pages = bytes.len() / PAGE;
    assert!(pages > 80, "{pages}");
    let mut random = Random(1);
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for page in 0..pages {
        // Half of the kinds for each page, in turn, because opening a store is slow.
        for kind in KINDS.into_iter().skip(page % 2).step_by(2) {
            let mut damaged = bytes.clone();
            damage(&mut damaged, page, kind, &mut random);
            if damaged == bytes {
                continue;
            }
            let file = folder.path().join(format!("{page} {kind}.sqlite"));
            std::fs::write(&file, damaged).unwrap();
            let (contents, health) = match open(&file).await {
                Ok(store) => {
                    let contents = seen(&store).await;
                    let health = store.ping().await;
                    store.close().await.unwrap();
                    (contents, health)
                }
                Err(error) => (Err(error.clone()), Err(error)),
            };
            match contents {
                Ok(contents) => assert_eq!(contents, expected, "page {page}, {kind}"),
                Err(error) => {
                    *refused.entry(kind).or_default() += 1;
                    assert_damage(&error);
                    assert_damage(&health.expect_err("the health check fails"));
                }
            }
            std::fs::remove_file(&file).unwrap();
        }
    }
    // Damage in free pages is not refused. Swapped bytes are often equal.
    for kind in KINDS {
        let at_least = if kind == "swap bytes" { pages / 20 } else { pages / 4 };
        assert!(refused[kind] > at_least, "{refused:?} of {pages} pages");
    }
}

/// Returns the files of a store that was killed after its last writes, and what could be read after
/// each write.
async fn killed(folder: &Path) -> (Vec<u8>, Vec<u8>, Vec<Vec<String>>) {
    let file = folder.join("killed.sqlite");
    let store = open(&file).await.unwrap();
    store.wipe().await.unwrap();
    let mut states = Vec::new();
    for number in 1..=12 {
        let user = store.create_user(NewUser::default(), NOW).await.unwrap().id;
        states.push(seen(&store).await.unwrap());
        store.attach_identity(user, cookie(number), NOW).await.unwrap();
        states.push(seen(&store).await.unwrap());
    }
    let wal = std::fs::read(folder.join("killed.sqlite-wal")).unwrap();
    (std::fs::read(file).unwrap(), wal, states)
}

/// A damaged last write looks like one that was interrupted by a power loss. Earlier writes do not.
#[tokio::test]
async fn a_damaged_write_ahead_log_loses_at_most_its_last_writes_silently() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, wal, states) = killed(folder.path()).await;
    let (whole, may_be_lost) = states.split_last().unwrap();
    let mut random = Random(2);
    let mut refused = 0;
    for case in 0..150 {
        let mut damaged = wal.clone();
        let at = if case < 32 { case } else { random.below(wal.len()) };
        match case % 3 {
            0 => damaged[at] ^= 1 << random.below(8),
            1 => damaged[at..].iter_mut().take(1 + random.below(PAGE)).for_each(|byte| *byte = 0),
            _ => damaged.swap(at, random.below(wal.len())),
        }
        let file = folder.path().join(format!("wal {case}.sqlite"));
        std::fs::write(&file, &bytes).unwrap();
        std::fs::write(folder.path().join(format!("wal {case}.sqlite-wal")), damaged).unwrap();
        match open(&file).await {
            Ok(store) => {
                let contents = seen(&store).await.unwrap();
                let is_late = at > wal.len() * 3 / 4 && may_be_lost[may_be_lost.len() - 3..].contains(&contents);
                assert!(contents == *whole || is_late, "case {case}, at {at} of {}", wal.len());
            }
            Err(error) => {
                refused += 1;
                assert_damage(&error);
            }
        }
    }
    assert!(refused > 75, "{refused}");
}

fn assert_damage(error: &ConfigStoreError) {
    let ConfigStoreError::Corrupt(what) = error else { panic!("{error}") };
    assert!(what.contains("restore the data folder"), "{what}");
}

/// Copies the rows to a file without checksums, like SQLite and earlier builds make it.
async fn plain(whole: &Path, file: &Path) {
    let mut options = ConnectOptions::new(format!("sqlite://{}?vfs={VFS}&mode=rwc", whole.display()));
    let from = Database::connect(options.max_connections(1).clone()).await.unwrap();
    from.execute_unprepared(&format!("ATTACH 'file:{}?vfs=unix&mode=rwc' AS plain", file.display())).await.unwrap();
    let of = |sql: &str| Statement::from_string(from.get_database_backend(), sql.to_owned());
    let made = from.query_all_raw(of("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")).await.unwrap();
    for row in made {
        let sql: String = row.try_get("", "sql").unwrap();
        let Some((what, rest)) = sql.split_once('"') else { continue };
        from.execute_unprepared(&format!(r#"{what} plain."{rest}"#)).await.unwrap();
    }
    let tables = from.query_all_raw(of("SELECT name FROM sqlite_master WHERE type = 'table'")).await.unwrap();
    for row in tables {
        let name: String = row.try_get("", "name").unwrap();
        from.execute_unprepared(&format!("DELETE FROM plain.{name}")).await.unwrap();
        from.execute_unprepared(&format!("INSERT INTO plain.{name} SELECT * FROM main.{name}")).await.unwrap();
    }
    from.execute_unprepared("PRAGMA plain.user_version = 1").await.unwrap();
    from.close().await.unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_build_gets_checksums_and_keeps_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, expected) = whole(folder.path()).await;
    let file = folder.path().join("a file #1? 100%25.sqlite");
    let easy = folder.path().join("easy.sqlite");
    plain(&folder.path().join("whole.sqlite"), &easy).await;
    std::fs::rename(easy, &file).unwrap();
    assert_eq!(std::fs::read(&file).unwrap()[20], 0, "no bytes of a page are reserved");
    // The remains of an unfinished copy.
    let copy = format!("{}-new", file.display());
    std::fs::write(&copy, &bytes[..5_000]).unwrap();
    std::fs::write(format!("{copy}-journal"), "half").unwrap();
    let store = open(&file).await.unwrap();
    assert_eq!(seen(&store).await.unwrap(), expected);
    assert_eq!(store.create_user(NewUser::default(), NOW).await.unwrap().id, UserId(USERS + 1));
    store.close().await.unwrap();
    assert!(!Path::new(&copy).exists());
    let mut bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes[20], 8);
    let last = bytes.len() - 2_000;
    bytes[last] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    match open(&file).await {
        Ok(store) => assert_damage(&seen(&store).await.expect_err("the last page is in use")),
        Err(error) => assert_damage(&error),
    }
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, _) = whole(folder.path()).await;
    let mut no_header = bytes.clone();
    no_header[..100].fill(0);
    for (name, bytes) in [("empty", &[][..]), ("short", &bytes[..1_000]), ("other", &no_header), ("text", b"text")] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        assert_damage(&open(&file).await.expect_err(name));
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{name}");
    }
}

#[tokio::test]
async fn a_log_without_its_file_is_refused_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.sqlite");
    let log = folder.path().join("config.sqlite-wal");
    std::fs::write(&log, b"").unwrap();
    assert_damage(&open(&file).await.expect_err("the file is missing"));
    assert!(log.exists() && !file.exists());
    std::fs::remove_file(&log).unwrap();
    open(&file).await.expect("a new store");
}

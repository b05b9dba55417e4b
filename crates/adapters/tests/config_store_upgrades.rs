//! Config stores of earlier builds, and of other settings, keep working.

use std::path::Path;

use adapters::sql::{SqlConfigStore, VFS};
use ports::config_store::{
    ConfigStoreError, IdentityKey, IdentityRules, IdentityStore, Link, MembershipBatch, MembershipChange,
    MembershipStore, Page, Survivor, Unknown, UserChange, UserStore,
};
use ports::identities::CaselessTypes;
use sea_orm::{ConnectionTrait, Database, Statement};
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use segment_engine::time::Timestamp;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Turns the tables, which are empty, back to those of the build before the last migration.
const INDEXED: &str = "
    DROP TABLE users;
    DROP TABLE identities;
    CREATE TABLE users (id integer NOT NULL PRIMARY KEY AUTOINCREMENT, client_ref_id varchar UNIQUE, name varchar,
        email varchar UNIQUE, created_at bigint NOT NULL, updated_at bigint NOT NULL, merged_into bigint,
        manual_version bigint DEFAULT 0 NOT NULL);
    CREATE TABLE identities (id_type varchar NOT NULL, id varchar NOT NULL, user_id bigint NOT NULL,
        created_at bigint NOT NULL, spelling varchar, PRIMARY KEY (id_type, id));
    CREATE INDEX users_by_survivor ON users (merged_into);
    CREATE INDEX identities_by_id ON identities (id);
    CREATE INDEX identities_by_user ON identities (user_id);
    DELETE FROM seaql_migrations WHERE version = 'm0004_fewer_indexes';";

/// Turns memberships, which are none, back to those of the build before their table was ordered.
const MEMBERSHIPS_IN_THREE_TREES: &str = "
    DROP TABLE memberships;
    CREATE TABLE memberships (user_id bigint NOT NULL, segment_id bigint NOT NULL, created_at bigint NOT NULL,
        updated_at bigint NOT NULL, PRIMARY KEY (user_id, segment_id));
    CREATE INDEX memberships_by_segment ON memberships (segment_id, user_id);
    DELETE FROM seaql_migrations WHERE version = 'm0005_memberships_by_user';";

/// And from there back to before emails were identities.
const BEFORE_EMAILS: &str = "
    ALTER TABLE identities DROP COLUMN spelling;
    DROP TABLE caseless_types;
    DELETE FROM seaql_migrations WHERE version = 'm0003_emails_are_identities';";

async fn open(file: &Path, rules: IdentityRules) -> Result<SqlConfigStore, ConfigStoreError> {
    SqlConfigStore::open_sqlite(file, rules).await
}

fn exact() -> IdentityRules {
    IdentityRules { caseless: CaselessTypes::new([]), ..IdentityRules::default() }
}

async fn run(file: &Path, sql: &str) -> Outcome {
    let connection = Database::connect(format!("sqlite://{}?vfs={VFS}", file.display())).await?;
    connection.execute_unprepared(sql).await?;
    connection.close().await?;
    Ok(())
}

/// Returns the names of the indexes of users and identities.
async fn indexes(file: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let connection = Database::connect(format!("sqlite://{}?vfs={VFS}", file.display())).await?;
    let sql = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name IN ('users', 'identities') AND sql IS NOT NULL
        ORDER BY name";
    let rows = connection.query_all_raw(Statement::from_string(connection.get_database_backend(), sql)).await?;
    let names = rows.iter().map(|row| row.try_get("", "name")).collect::<Result<_, _>>()?;
    connection.close().await?;
    Ok(names)
}

fn key(id_type: &str, id: &str) -> IdentityKey {
    IdentityKey { id_type: id_type.to_owned(), id: id.to_owned() }
}

async fn owner(store: &SqlConfigStore, email: &str) -> Option<i64> {
    let found = store.resolve(&[key("email", email)], Unknown::Reject, Timestamp(0)).await.expect("the store works");
    found.owners[0].map(|user| user.0)
}

/// Returns the identities and emails of the users 1 to `last`.
async fn summaries(store: &SqlConfigStore, last: i64) -> Result<Vec<(i64, String, Option<String>)>, ConfigStoreError> {
    let mut summaries = Vec::new();
    for id in 1..=last {
        let Some(user) = store.user(UserId(id)).await?.filter(|user| user.merged_from.is_none()) else { continue };
        let own = store.identities(UserId(id)).await?;
        let own: Vec<String> = own.into_iter().map(|identity| identity.key.to_string()).collect();
        summaries.push((id, own.join(" "), user.email));
    }
    Ok(summaries)
}

fn summary(id: i64, identities: &str, email: &str) -> (i64, String, Option<String>) {
    (id, identities.to_owned(), (!email.is_empty()).then(|| email.to_owned()))
}

/// (1, 2): a CRM user, older than the visitor whose identity is the same email; (3, 4): younger.
/// (5, 6): emails that differ in case only. 7 was merged into 8. 9 already has its email as an
/// identity. 10 is a visitor. (11, 12, 13): both conflicts at once. 14 has another email as an
/// identity.
const USERS: &str = "
    INSERT INTO users (id, client_ref_id, email, created_at, updated_at, merged_into) VALUES
        (1, 'crm-1', 'ann@x', 10, 15, NULL), (2, NULL, NULL, 20, 20, NULL),
        (3, NULL, NULL, 5, 5, NULL), (4, 'crm-4', 'bob@x', 30, 30, NULL),
        (5, 'crm-5', 'Cy@x', 40, 40, NULL), (6, 'crm-6', 'cy@x', 39, 39, NULL),
        (7, 'crm-7', 'dan@x', 1, 1, 8), (8, 'crm-8', NULL, 1, 1, NULL),
        (9, 'crm-9', 'eve@x', 1, 1, NULL), (10, NULL, NULL, 1, 1, NULL),
        (11, 'crm-11', 'Gil@x', 50, 50, NULL), (12, NULL, NULL, 60, 60, NULL), (13, 'crm-13', 'gil@x', 45, 45, NULL),
        (14, 'crm-14', 'hal@x', 1, 1, NULL);
    INSERT INTO identities (id_type, id, user_id, created_at) VALUES
        ('email', 'ann@x', 2, 20), ('email', 'bob@x', 3, 5), ('email', 'eve@x', 9, 1), ('email', 'FAY@x', 10, 1),
        ('email', 'Gil@x', 12, 60), ('email', 'other@x', 14, 1), ('cookie', 'ANN@x', 10, 2);";

#[tokio::test]
async fn emails_of_an_earlier_build_become_identities() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    drop(open(&file, exact()).await?);
    run(&file, INDEXED).await?;
    run(&file, BEFORE_EMAILS).await?;
    run(&file, USERS).await?;
    let expected = [
        summary(1, "email:ann@x", "ann@x"),
        summary(2, "former_email:ann@x", ""),
        summary(3, "email:bob@x", ""),
        summary(4, "former_email:bob@x", "bob@x"),
        summary(5, "former_email:Cy@x", "Cy@x"),
        summary(6, "email:cy@x", "cy@x"),
        summary(8, "email:dan@x", ""),
        summary(9, "email:eve@x", "eve@x"),
        summary(10, "cookie:ANN@x email:FAY@x", ""),
        summary(11, "former_email:Gil@x#11", "Gil@x"),
        summary(12, "former_email:Gil@x", ""),
        summary(13, "email:gil@x", "gil@x"),
        summary(14, "email:hal@x email:other@x", "hal@x"),
    ];
    for start in ["the first start", "the second"] {
        let store = open(&file, IdentityRules::default()).await?;
        assert_eq!(summaries(&store, 14).await?, expected, "{start}");
        for (email, user) in [("ANN@x", 1), ("bob@x", 3), ("Cy@x", 6), ("Dan@x", 8), ("fay@x", 10), ("GIL@x", 13)] {
            assert_eq!(owner(&store, email).await, Some(user), "{start}: {email}");
        }
    }
    // Two users that may be one person can be merged, and a user who lost an email may keep stating
    // it.
    let store = open(&file, IdentityRules::default()).await?;
    let link = Link { from: key("former_email", "ann@x"), to: key("email", "ann@x"), survivor: Survivor::Older };
    let linked = store.link(link, Timestamp(99)).await?;
    assert_eq!((linked.user_id, linked.absorbed), (UserId(1), Some(UserId(2))));
    let same = UserChange { email: Some(Some("bob@x".into())), ..UserChange::default() };
    assert_eq!(store.update_user(UserId(4), same, Timestamp(99)).await?.user.email.as_deref(), Some("bob@x"));
    assert_eq!(owner(&store, "bob@x").await, Some(3));
    // The survivor can take the absorbed user's email.
    let dan = UserChange { email: Some(Some("dan@x".into())), ..UserChange::default() };
    assert_eq!(store.update_user(UserId(8), dan, Timestamp(99)).await?.freed, []);
    Ok(())
}

#[tokio::test]
async fn a_crash_before_the_migration_is_recorded_does_no_harm() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    drop(open(&file, exact()).await?);
    run(&file, "DELETE FROM seaql_migrations WHERE version IN ('m0003_emails_are_identities', 'm0004_fewer_indexes')")
        .await?;
    drop(open(&file, IdentityRules::default()).await?);
    Ok(())
}

#[tokio::test]
async fn users_and_identities_of_an_earlier_build_are_kept_and_no_id_is_used_again() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    drop(open(&file, IdentityRules::default()).await?);
    run(&file, INDEXED).await?;
    // 4 was merged into 3. 9, the last, was deleted.
    let rows = "
        INSERT INTO users (id, client_ref_id, name, email, created_at, updated_at, merged_into, manual_version) VALUES
            (2, 'crm-2', 'Ann', 'ann@x', 10, 15, NULL, 7), (3, NULL, NULL, NULL, 20, 20, NULL, 0),
            (4, 'crm-4', NULL, NULL, 5, 5, 3, 0), (9, NULL, NULL, NULL, 9, 9, NULL, 0);
        DELETE FROM users WHERE id = 9;
        INSERT INTO identities (id_type, id, user_id, created_at, spelling) VALUES
            ('email', 'ann@x', 2, 10, 'Ann@x'), ('cookie', 'a', 3, 20, NULL), ('', 'a', 2, 11, NULL);";
    run(&file, rows).await?;
    for start in ["the first start", "the second"] {
        let store = open(&file, IdentityRules::default()).await?;
        let expected = [summary(2, ":a email:Ann@x", "ann@x"), summary(3, "cookie:a", "")];
        assert_eq!(summaries(&store, 9).await?, expected, "{start}");
        let keys = [key("email", "ANN@x"), key("cookie", "a"), key("", "a"), key("any", "crm-4"), key("any", "a")];
        store.wait_until_indexed().await;
        let found = store.resolve(&keys, Unknown::Reject, Timestamp(30)).await?.owners;
        assert_eq!(found, [Some(2), Some(3), Some(2), Some(3), None].map(|id| id.map(UserId)), "{start}");
        store.close().await?;
        assert_eq!(
            indexes(&file).await?,
            ["identities_by_user", "users_by_client_ref", "users_by_email", "users_by_survivor"]
        );
        run(&file, "DELETE FROM identities WHERE id_type = 'any'").await?;
    }
    let store = open(&file, IdentityRules::default()).await?;
    assert_eq!(store.user(UserId(2)).await?.and_then(|user| user.name).as_deref(), Some("Ann"));
    let new = store.resolve(&[key("cookie", "new")], Unknown::Create, Timestamp(40)).await?;
    assert_eq!(new.owners, [Some(UserId(10))], "9 was used before");
    Ok(())
}

#[tokio::test]
async fn memberships_of_an_earlier_build_are_kept() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    drop(open(&file, IdentityRules::default()).await?);
    run(&file, MEMBERSHIPS_IN_THREE_TREES).await?;
    let rows = "
        INSERT INTO users (id, created_at, updated_at) VALUES (2, 10, 10), (3, 20, 20);
        INSERT INTO segments (id, title, tag, where_statement, is_generic, kind, version, created_at, updated_at) VALUES
            (1, 'One', 'one', '', false, 'computed', 1, 1, 1), (2, 'Two', 'two', '', false, 'computed', 1, 1, 1);
        INSERT INTO memberships VALUES (3, 1, 30, 31), (2, 2, -5, -4), (2, 1, 20, 21), (9, 1, 1, 1);
        INSERT INTO membership_positions VALUES (4, 77);";
    run(&file, rows).await?;
    for start in ["the first start", "after a crash before the migration was recorded", "the third"] {
        let store = open(&file, IdentityRules::default()).await?;
        let members = store.members(SegmentId(1), Page::ALL).await?;
        let members: Vec<_> =
            members.iter().map(|m| (m.user.id.0, m.membership.created_at, m.membership.updated_at)).collect();
        assert_eq!(members, [(2, Timestamp(20), Timestamp(21)), (3, Timestamp(30), Timestamp(31))], "{start}");
        let user = store.user(UserId(2)).await?.expect("the user is kept");
        let segments: Vec<_> = user.segments.iter().map(|m| (m.segment_id.0, m.created_at.0)).collect();
        assert_eq!(segments, [(1, 20), (2, -5)], "{start}");
        assert_eq!(store.membership_positions().await?, [(PartitionId(4), 77)], "{start}");
        store.close().await?;
        if start == "the first start" {
            run(&file, "DELETE FROM seaql_migrations WHERE version = 'm0005_memberships_by_user'").await?;
        }
    }
    let store = open(&file, IdentityRules::default()).await?;
    let changes = vec![MembershipChange {
        user_id: UserId(2),
        entered: vec![SegmentId(1)],
        left: vec![SegmentId(2)],
        effective_at: Timestamp(40),
    }];
    store.apply_memberships(MembershipBatch { partition: PartitionId(4), from: 77, to: 78, changes }).await?;
    let user = store.user(UserId(2)).await?.expect("the user is kept");
    let segments: Vec<_> = user.segments.iter().map(|m| (m.segment_id.0, m.created_at.0)).collect();
    assert_eq!(segments, [(1, 40)]);
    Ok(())
}

#[tokio::test]
async fn stored_identities_follow_the_setting_of_caseless_types() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    let now = Timestamp(1);
    let given = |id: &str| ports::config_store::NewUser { email: Some(id.to_owned()), ..Default::default() };
    let store = open(&file, IdentityRules::default()).await?;
    store.create_user(given("Ann@Ä"), now).await?;
    drop(store);
    // With exact comparison again, identities are spelled as they were written.
    let store = open(&file, exact()).await?;
    assert_eq!((owner(&store, "Ann@Ä").await, owner(&store, "ann@ä").await), (Some(1), None));
    store.create_user(given("ann@ä"), Timestamp(2)).await?;
    store.attach_identity(UserId(1), key("login", "Ann"), now).await?;
    store.attach_identity(UserId(1), key("login", "ann"), Timestamp(2)).await?;
    store.attach_identity(UserId(2), key("login", "ANN"), Timestamp(2)).await?;
    // More rows than are rewritten at a time.
    let many: Vec<IdentityKey> = (0..5_000).map(|number| key("login", &format!("U{number}"))).collect();
    store.resolve(&many, Unknown::Create, Timestamp(3)).await?;
    drop(store);
    let both = ["email", "login"].map(str::to_owned);
    let rules = IdentityRules { caseless: CaselessTypes::new(both), ..IdentityRules::default() };
    let store = open(&file, rules).await?;
    let expected =
        [summary(1, "email:Ann@Ä login:Ann", "Ann@Ä"), summary(2, "former_email:ann@ä former_login:ANN", "ann@ä")];
    assert_eq!(summaries(&store, 2).await?, expected);
    let spelled: Vec<IdentityKey> = (0..5_000).map(|number| key("login", &format!("u{number}"))).collect();
    let found = store.resolve(&spelled, Unknown::Reject, Timestamp(4)).await?.owners;
    assert_eq!(found, (3..5_003).map(|id| Some(UserId(id))).collect::<Vec<_>>());
    Ok(())
}

//! The index of identities agrees with the file, whatever happens to the calls that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::task::Poll;

use adapters::sql::{IDENTITY_INDEX_BYTES_MAX, SqlConfigStore, VFS};
use ports::config_store::{
    ConfigStoreError, IdentityKey, IdentityRules, IdentityStore, Link, NewUser, Page, Survivor, Unknown, UserChange,
    UserStore,
};
use sea_orm::{ConnectionTrait, Database};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const NOW: Timestamp = Timestamp(7);

fn key(id_type: &str, id: &str) -> IdentityKey {
    IdentityKey { id_type: id_type.to_owned(), id: id.to_owned() }
}

async fn open(folder: &Path, index_bytes_max: usize) -> Result<SqlConfigStore, ConfigStoreError> {
    SqlConfigStore::open_sqlite_with(&folder.join("config.db"), IdentityRules::default(), index_bytes_max).await
}

fn cookies(range: std::ops::Range<usize>) -> Vec<IdentityKey> {
    range.map(|number| key("cookie", &format!("c{number}"))).collect()
}

fn all_known(store: &SqlConfigStore, keys: &[IdentityKey]) -> Vec<Option<i64>> {
    keys.iter().map(|key| store.known(&key.id_type, &key.id).map(|user| user.0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reopened_store_loads_what_it_had_while_it_changes() -> Outcome {
    let folder = tempfile::tempdir()?;
    // More than two pages of the load.
    let keys = cookies(0..25_000);
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    for some in keys.chunks(5_000) {
        store.resolve(some, Unknown::Create, NOW).await?;
    }
    for number in 0..3 {
        let client_ref_id = Some(format!("crm-{number}"));
        store.create_user(NewUser { client_ref_id, ..NewUser::default() }, NOW).await?;
    }
    store.close().await?;
    // Some entries change before the load has reached them, others after.
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    for deleted in [1, 12_001, 25_000] {
        store.delete_user(UserId(deleted)).await?;
    }
    let link = |from: &str, to: &str| Link { from: key("cookie", from), to: key("cookie", to), survivor: Survivor::To };
    store.link(link("c1", "c2"), NOW).await?;
    store.link(link("c24998", "c24997"), NOW).await?;
    let renamed = UserChange { client_ref_id: Some(Some("new".into())), ..UserChange::default() };
    store.update_user(UserId(25_001), renamed, NOW).await?;
    store.wait_until_indexed().await;
    let mut expected: Vec<Option<i64>> = (1..=25_000).map(Some).collect();
    for deleted in [1, 12_001, 25_000] {
        expected[deleted - 1] = None;
    }
    (expected[1], expected[24_998]) = (Some(3), Some(24_998));
    assert_eq!(all_known(&store, &keys), expected);
    let found = store.resolve(&keys, Unknown::Reject, NOW).await?.owners;
    assert_eq!(found.into_iter().map(|user| user.map(|user| user.0)).collect::<Vec<_>>(), expected);
    let refs = [key("any", "crm-0"), key("any", "new"), key("any", "crm-1"), key("any", "CRM-2")];
    let found = store.resolve(&refs, Unknown::Reject, NOW).await?.owners;
    assert_eq!(found, [None, Some(UserId(25_001)), Some(UserId(25_002)), None]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_of_any_text_are_loaded() -> Outcome {
    let folder = tempfile::tempdir()?;
    let keys = ["\"quoted\"", "back\\slash", "tab\t", "né\u{2028}", "'", "[1,2]"].map(|id| key("a \"type\"", id));
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    store.resolve(&keys, Unknown::Create, NOW).await?;
    let known = all_known(&store, &keys);
    store.close().await?;
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    store.wait_until_indexed().await;
    assert!(known.iter().all(Option::is_some));
    assert_eq!(all_known(&store, &keys), known);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creators_of_the_same_identities_agree() -> Outcome {
    for index_bytes_max in [IDENTITY_INDEX_BYTES_MAX, 20_000, 0] {
        let folder = tempfile::tempdir()?;
        let store = open(folder.path(), index_bytes_max).await?;
        let creators = (0..32).map(|number| {
            let store = store.clone();
            tokio::spawn(
                async move { store.resolve(&cookies(number * 20..number * 20 + 400), Unknown::Create, NOW).await },
            )
        });
        let mut owners: BTreeMap<usize, BTreeSet<i64>> = BTreeMap::new();
        for (number, creator) in creators.collect::<Vec<_>>().into_iter().enumerate() {
            for (cookie, owner) in creator.await??.owners.into_iter().enumerate() {
                owners.entry(number * 20 + cookie).or_default().extend(owner.map(|user| user.0));
            }
        }
        assert_eq!(owners.len(), 1_020);
        assert!(owners.values().all(|owners| owners.len() == 1), "{index_bytes_max}");
        assert_eq!(store.count_users().await?, 1_020, "{index_bytes_max}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_index_and_file_in_agreement() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    store.wait_until_indexed().await;
    let mut random = fastrand::Rng::with_seed(3);
    let mut cut_off = 0;
    for number in 0..300 {
        let keys = cookies(number..number + 3);
        let mut creating = Box::pin(store.resolve(&keys, Unknown::Create, NOW));
        // Dropped after some of its steps, at whatever await it then is.
        let mut steps = random.usize(..16);
        let ended = std::future::poll_fn(|context| match creating.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if steps == 0 => Poll::Ready(None),
            Poll::Pending => {
                steps -= 1;
                Poll::Pending
            }
        });
        match ended.await {
            Some(outcome) => assert!(outcome?.owners.iter().all(Option::is_some)),
            None => cut_off += 1,
        }
    }
    assert!(cut_off > 30, "{cut_off}");
    let keys = cookies(0..302);
    let owners = store.resolve(&keys, Unknown::Create, NOW).await?.owners;
    assert_eq!(owners.iter().flatten().collect::<BTreeSet<_>>().len(), 302);
    let users = store.users(Page::ALL).await?;
    assert_eq!(users.len(), 302, "nobody was created without an identity");
    assert!(users.iter().all(|user| user.first_identity.is_some()));
    let known = all_known(&store, &keys);
    drop(store);
    let store = open(folder.path(), 0).await?;
    let found = store.resolve(&keys, Unknown::Reject, NOW).await?.owners;
    assert_eq!(found.into_iter().map(|user| user.map(|user| user.0)).collect::<Vec<_>>(), known);
    Ok(())
}

#[tokio::test]
async fn an_index_that_lacks_an_identity_is_found_out() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = open(folder.path(), IDENTITY_INDEX_BYTES_MAX).await?;
    store.resolve(&cookies(0..1), Unknown::Create, NOW).await?;
    store.wait_until_indexed().await;
    // Nobody else may write to the file; here somebody does.
    let other = Database::connect(format!("sqlite://{}?vfs={VFS}", folder.path().join("config.db").display())).await?;
    let row = "INSERT INTO identities (id_type, id, user_id, created_at) VALUES ('cookie', 'c1', 1, 7)";
    other.execute_unprepared(row).await?;
    let refused = store.resolve(&cookies(0..3), Unknown::Create, NOW).await;
    assert!(matches!(refused, Err(ConfigStoreError::Unavailable(_))), "{refused:?}");
    let again = store.resolve(&cookies(0..3), Unknown::Create, NOW).await?.owners;
    assert_eq!(again, [Some(UserId(1)), Some(UserId(1)), Some(UserId(2))]);
    Ok(())
}

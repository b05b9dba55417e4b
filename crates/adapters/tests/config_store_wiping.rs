//! Deleted data is in none of the config store's files.

use std::path::Path;

use adapters::sql::{SqlConfigStore, VFS};
use ports::config_store::{
    ConfigStore, IdentityKey, IdentityRules, IdentityStore, NewUser, Outbox, TraitStore, UserChange, UserStore,
};
use sea_orm::{ConnectOptions, ConnectionTrait, Database};
use segment_engine::time::Timestamp;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const SECRETS: [&str; 6] = ["client-zqx", "email-zqx", "name-zqx", "cookie-zqx", "trait-zqx", "older-zqx"];

/// Returns the secrets that a file of the folder contains.
fn found(folder: &Path) -> Result<Vec<&'static str>, std::io::Error> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let bytes = std::fs::read(entry?.path())?;
        let has = |secret: &&str| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        found.extend(SECRETS.into_iter().filter(has));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[tokio::test]
async fn a_deleted_user_is_in_no_file() -> Outcome {
    let folder = tempfile::tempdir()?;
    let store = SqlConfigStore::open_sqlite(&folder.path().join("config.sqlite"), IdentityRules::default()).await?;
    let now = Timestamp(1);
    let given = |text: &str| Some(text.to_owned());
    let new = NewUser { client_ref_id: given("client-zqx"), name: given("name-zqx"), email: given("older-zqx") };
    let user = store.create_user(new, now).await?.id;
    let change = UserChange { email: Some(given("email-zqx")), ..UserChange::default() };
    store.update_user(user, change, now).await?;
    let cookie = IdentityKey { id_type: "cookie".to_owned(), id: "cookie-zqx".to_owned() };
    store.attach_identity(user, cookie, now).await?;
    store.set_traits(user, serde_json::from_str(r#"{"trait-zqx": 1}"#)?, now).await?;
    assert_eq!(found(folder.path())?.len(), SECRETS.len());
    store.delete_user(user).await?;
    store.outbox_sent(store.outbox_end().await?).await?;
    store.wipe().await?;
    assert_eq!(found(folder.path())?, Vec::<&str>::new());
    // Later writes do not bring it back.
    store.create_user(NewUser::default(), now).await?;
    assert_eq!(found(folder.path())?, Vec::<&str>::new());
    Ok(())
}

#[tokio::test]
async fn data_deleted_by_an_earlier_build_is_erased_at_the_next_start() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("config.sqlite");
    drop(SqlConfigStore::open_sqlite(&file, IdentityRules::default()).await?);
    // One connection, because the pragma belongs to it.
    let mut options = ConnectOptions::new(format!("sqlite://{}?vfs={VFS}", file.display()));
    let earlier = Database::connect(options.max_connections(1).clone()).await?;
    let user = "INSERT INTO users (client_ref_id, email, name, created_at, updated_at, manual_version)
        VALUES ('client-zqx', 'email-zqx', 'name-zqx', 1, 1, 0);";
    for sql in ["PRAGMA secure_delete = OFF; PRAGMA user_version = 0;", user, "DELETE FROM users;"] {
        earlier.execute_unprepared(sql).await?;
    }
    earlier.close().await?;
    assert_eq!(found(folder.path())?, ["client-zqx", "email-zqx", "name-zqx"], "SQLite alone does not erase it");
    let store = SqlConfigStore::open_sqlite(&file, IdentityRules::default()).await?;
    assert_eq!(found(folder.path())?, Vec::<&str>::new());
    store.ping().await?;
    Ok(())
}

//! All tables of the first release.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, big_pk_auto, boolean, string, string_null, string_uniq, text, text_null,
};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0001_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in users().into_iter().chain(definitions()).chain(memberships()) {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn table(name: &'static str, columns: Vec<ColumnDef>) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name);
    for column in columns {
        table.col(column);
    }
    table
}

fn keyed(mut table: TableCreateStatement, key: &[&'static str]) -> TableCreateStatement {
    let mut index = Index::create();
    for column in key {
        index.col(*column);
    }
    table.primary_key(&mut index);
    table
}

fn users() -> Vec<TableCreateStatement> {
    let users = vec![
        big_pk_auto("id"),
        string_null("client_ref_id").unique_key().take(),
        string_null("name"),
        string_null("email").unique_key().take(),
        big_integer("created_at"),
        big_integer("updated_at"),
        big_integer_null("merged_into"),
    ];
    let identities = vec![string("id_type"), string("id"), big_integer("user_id"), big_integer("created_at")];
    let traits = vec![big_integer("user_id"), string("key"), text("value"), big_integer("created_at")];
    vec![
        table("users", users),
        keyed(table("identities", identities), &["id_type", "id"]),
        keyed(table("traits", traits), &["user_id", "key"]),
    ]
}

fn definitions() -> Vec<TableCreateStatement> {
    let activities = vec![
        big_pk_auto("id"),
        string("title"),
        text_null("description"),
        string_uniq("code"),
        big_integer("created_at"),
        big_integer("updated_at"),
    ];
    let segments = vec![
        big_pk_auto("id"),
        string("title"),
        text_null("description"),
        string_uniq("tag"),
        text("where_statement"),
        boolean("is_generic"),
        string("kind"),
        big_integer("version"),
        big_integer("created_at"),
        big_integer("updated_at"),
    ];
    let uses = vec![big_integer("segment_id"), string("tag")];
    let links = vec![big_integer("activity_id"), big_integer("segment_id")];
    vec![
        table("activities", activities),
        table("segments", segments),
        keyed(table("segment_uses", uses), &["segment_id", "tag"]),
        keyed(table("activity_segments", links), &["activity_id", "segment_id"]),
    ]
}

fn memberships() -> Vec<TableCreateStatement> {
    let pair = || vec![big_integer("user_id"), big_integer("segment_id")];
    let mut memberships = pair();
    memberships.extend([big_integer("created_at"), big_integer("updated_at")]);
    let positions = vec![big_integer("partition").primary_key().take(), big_integer("position")];
    let outbox = vec![big_pk_auto("id"), string("topic"), big_integer("key"), text("value")];
    vec![
        keyed(table("memberships", memberships), &["user_id", "segment_id"]),
        keyed(table("manual_memberships", pair()), &["user_id", "segment_id"]),
        table("membership_positions", positions),
        table("outbox", outbox),
    ]
}

/// Memberships have no foreign keys, because the engine may still emit memberships of a user that
/// was just deleted.
fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create();
        index.name(name).table(table);
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        index("users_by_survivor", "users", &["merged_into"]),
        index("identities_by_id", "identities", &["id"]),
        index("identities_by_user", "identities", &["user_id"]),
        index("segment_uses_by_tag", "segment_uses", &["tag"]),
        index("activity_segments_by_segment", "activity_segments", &["segment_id"]),
        index("memberships_by_segment", "memberships", &["segment_id", "user_id"]),
        index("manual_memberships_by_segment", "manual_memberships", &["segment_id"]),
    ]
}

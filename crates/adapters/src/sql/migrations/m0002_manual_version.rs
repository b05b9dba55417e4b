//! Counts how often a user's manual list was set, so that the engine knows which of two lists is
//! newer.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::big_integer;

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m0002_manual_version"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut table = Table::alter();
        table.table("users").add_column(big_integer("manual_version").default(0));
        manager.alter_table(table).await
    }
}

//! The history of the tables. A released migration is never edited: a change is a new migration.

mod m0001_tables;
mod m0002_manual_version;
mod m0003_emails_are_identities;
mod m0004_fewer_indexes;
mod m0005_memberships_by_user;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

pub(super) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_tables::Migration),
            Box::new(m0002_manual_version::Migration),
            Box::new(m0003_emails_are_identities::Migration),
            Box::new(m0004_fewer_indexes::Migration),
            Box::new(m0005_memberships_by_user::Migration),
        ]
    }
}

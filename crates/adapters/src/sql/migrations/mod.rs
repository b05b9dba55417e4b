//! The tables' history. A migration is never edited once it was released: a change is a new one.

mod m0001_tables;
mod m0002_manual_version;
mod m0003_emails_are_identities;

use sea_orm_migration::{MigrationTrait, MigratorTrait};

pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_tables::Migration),
            Box::new(m0002_manual_version::Migration),
            Box::new(m0003_emails_are_identities::Migration),
        ]
    }
}

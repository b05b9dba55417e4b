//! Identities are stored in the form in which they compare. When the setting of caseless types
//! changes between two starts, the stored identities are rewritten in one transaction.
//!
//! Two users may then turn out to have the same identity. The older user gets it. The younger one
//! keeps it under the type `former_…`, so that a user never loses their only identity, and a link
//! can merge the two.

use std::collections::{HashMap, HashSet};

use ports::identities::CaselessTypes;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseConnection, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, TransactionTrait,
};

use super::entities::{caseless_type, identity, user};
use super::{BOUND_MAX, Result, unavailable};

/// The rows read at a time: each binds up to five values when it is written.
const PAGE_ROWS: usize = BOUND_MAX / 5;
/// The number of contested identities whose users are logged one by one.
const LOGGED_MAX: usize = 100;

/// Two users of one identity.
struct Contested {
    older: i64,
    younger: i64,
}

/// Rewrites the stored identities according to the setting.
pub(super) async fn settle(writer: &DatabaseConnection, caseless: &CaselessTypes) -> Result<()> {
    let stored = caseless_type::Entity::find().all(writer).await.map_err(unavailable)?;
    let stored: HashSet<String> = stored.into_iter().map(|row| row.id_type).collect();
    let wanted: HashSet<String> = caseless.iter().map(str::to_owned).collect();
    if stored == wanted {
        return Ok(());
    }
    let tx = writer.begin().await.map_err(unavailable)?;
    for id_type in stored.difference(&wanted) {
        restore(&tx, id_type).await?;
        caseless_type::Entity::delete_by_id(id_type.clone()).exec(&tx).await.map_err(unavailable)?;
    }
    for id_type in wanted.difference(&stored) {
        let contested = fold(&tx, caseless, id_type).await?;
        log(id_type, &contested);
        let model = caseless_type::ActiveModel { id_type: Set(id_type.clone()) };
        caseless_type::Entity::insert(model).exec_without_returning(&tx).await.map_err(unavailable)?;
    }
    tx.commit().await.map_err(unavailable)
}

/// Makes identities of a type compare with case again. No two were written alike.
async fn restore(tx: &impl ConnectionTrait, id_type: &str) -> Result<()> {
    let written = identity::Entity::update_many().filter(identity::Column::IdType.eq(id_type));
    let written = written.filter(identity::Column::Spelling.is_not_null());
    let written = written.col_expr(identity::Column::Id, Expr::col(identity::Column::Spelling));
    let written = written.col_expr(identity::Column::Spelling, Expr::value(Option::<String>::None));
    written.exec(tx).await.map_err(unavailable)?;
    Ok(())
}

/// Makes identities of a type compare without case.
async fn fold(tx: &impl ConnectionTrait, caseless: &CaselessTypes, id_type: &str) -> Result<Vec<Contested>> {
    let mut contested = Vec::new();
    let mut after = String::new();
    loop {
        let query = identity::Entity::find().filter(identity::Column::IdType.eq(id_type));
        let query = query.filter(identity::Column::Id.gt(after)).order_by_asc(identity::Column::Id);
        let page = query.limit(PAGE_ROWS as u64).all(tx).await.map_err(unavailable)?;
        let Some(last) = page.last() else { return Ok(contested) };
        after = last.id.clone();
        let written: Vec<identity::Model> =
            page.into_iter().filter(|row| caseless.form(id_type, &row.id) != row.id).collect();
        if !written.is_empty() {
            contested.extend(fold_rows(tx, caseless, written).await?);
        }
    }
}

/// Like [`fold`], for rows whose ids are not in the caseless form.
async fn fold_rows(
    tx: &impl ConnectionTrait,
    caseless: &CaselessTypes,
    written: Vec<identity::Model>,
) -> Result<Vec<Contested>> {
    let id_type = written[0].id_type.clone();
    let form = |row: &identity::Model| caseless.form(&row.id_type, &row.id).into_owned();
    let present = rows_of(tx, &id_type, written.iter().map(form).collect()).await?;
    let ids: Vec<String> = written.iter().chain(&present).map(|row| row.id.clone()).collect();
    let ages = ages(tx, written.iter().chain(&present).map(|row| row.user_id).collect()).await?;
    let age = |row: &identity::Model| (ages.get(&row.user_id).copied().unwrap_or(i64::MAX), row.user_id);
    let mut kept: HashMap<String, identity::Model> = present.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut lost: Vec<(identity::Model, i64)> = Vec::new();
    for row in written {
        let id = form(&row);
        let row = identity::Model { spelling: Some(row.id), id: id.clone(), ..row };
        let winner = match kept.remove(&id) {
            None => row,
            Some(other) if other.user_id == row.user_id => {
                if row.created_at < other.created_at {
                    row
                } else {
                    other
                }
            }
            Some(other) => {
                let (winner, loser) = if age(&row) < age(&other) { (row, other) } else { (other, row) };
                lost.push((loser, winner.user_id));
                winner
            }
        };
        kept.insert(id, winner);
    }
    let old = identity::Entity::delete_many().filter(identity::Column::IdType.eq(id_type));
    old.filter(identity::Column::Id.is_in(ids)).exec(tx).await.map_err(unavailable)?;
    insert(tx, kept.into_values().collect()).await?;
    keep_former(tx, caseless, lost).await
}

/// Gives each identity to the user who lost it, under another type.
async fn keep_former(
    tx: &impl ConnectionTrait,
    caseless: &CaselessTypes,
    lost: Vec<(identity::Model, i64)>,
) -> Result<Vec<Contested>> {
    let mut contested = Vec::new();
    for (row, older) in lost {
        let younger = row.user_id;
        let id_type = format!("former_{}", row.id_type);
        let mut written = row.spelling.unwrap_or(row.id);
        let mut id = caseless.form(&id_type, &written).into_owned();
        let present = identity::Entity::find_by_id((id_type.clone(), id.clone())).one(tx).await.map_err(unavailable)?;
        // Three users had it, or the type is in use.
        if present.is_some() {
            written = format!("{written}#{younger}");
            id = format!("{id}#{younger}");
        }
        let spelling = (id != written).then_some(written);
        insert(tx, vec![identity::Model { id_type, id, user_id: younger, created_at: row.created_at, spelling }])
            .await?;
        contested.push(Contested { older, younger });
    }
    Ok(contested)
}

async fn insert(tx: &impl ConnectionTrait, rows: Vec<identity::Model>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let models = rows.into_iter().map(IntoActiveModel::into_active_model);
    identity::Entity::insert_many(models).exec_without_returning(tx).await.map_err(unavailable)?;
    Ok(())
}

async fn rows_of(tx: &impl ConnectionTrait, id_type: &str, ids: Vec<String>) -> Result<Vec<identity::Model>> {
    let query = identity::Entity::find().filter(identity::Column::IdType.eq(id_type));
    query.filter(identity::Column::Id.is_in(ids)).all(tx).await.map_err(unavailable)
}

/// Returns when each of these users was created.
async fn ages(tx: &impl ConnectionTrait, users: HashSet<i64>) -> Result<HashMap<i64, i64>> {
    let query = user::Entity::find().select_only().column(user::Column::Id).column(user::Column::CreatedAt);
    let rows: Vec<(i64, i64)> =
        query.filter(user::Column::Id.is_in(users)).into_tuple().all(tx).await.map_err(unavailable)?;
    Ok(rows.into_iter().collect())
}

fn log(id_type: &str, contested: &[Contested]) {
    for Contested { older, younger } in contested.iter().take(LOGGED_MAX) {
        tracing::warn!(
            older,
            younger,
            "two users had the same {id_type} except for case: the older keeps it, the younger has it as an \
             identity of the type former_{id_type}; if both are one person, POST /api/v1/identities/link merges them"
        );
    }
    if !contested.is_empty() {
        tracing::warn!(
            count = contested.len(),
            "identities of the type {id_type} that two users had in different case"
        );
    }
}

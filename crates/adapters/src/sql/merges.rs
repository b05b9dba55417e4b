//! Merges two users in SQL. Merges are decided one after the other, in the single writer, so that
//! no two can form a cycle.

use ports::config_store::{OutboxEntry, merge_traits};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::entities::{user, user_trait};
use super::{Result, emails, identities, memberships, outbox, traits, unavailable};

/// Merges `absorbed` into `survivor`: identities, traits, manual lists, the email, and the users
/// that were absorbed before. Neither user may be merged or deleted already.
pub(super) async fn merge(tx: &impl ConnectionTrait, survivor: UserId, absorbed: UserId, now: Timestamp) -> Result<()> {
    let theirs_or_them = user::Column::MergedInto.eq(absorbed.0).or(user::Column::Id.eq(absorbed.0));
    let redirect = user::Entity::update_many().filter(theirs_or_them);
    let redirect = redirect.col_expr(user::Column::MergedInto, Expr::value(survivor.0));
    redirect.exec(tx).await.map_err(unavailable)?;
    identities::hand_over(tx, survivor, absorbed).await?;

    let (ours, theirs) = (traits::load(tx, survivor.0).await?, traits::load(tx, absorbed.0).await?);
    if !theirs.is_empty() {
        traits::store(tx, survivor.0, &merge_traits(ours, theirs)).await?;
        let removed = user_trait::Entity::delete_many().filter(user_trait::Column::UserId.eq(absorbed.0));
        removed.exec(tx).await.map_err(unavailable)?;
    }
    let manual = memberships::merge_manual(tx, survivor, absorbed, now).await?;
    let changed = emails::merge(tx, survivor, absorbed, now).await?;
    let merge = std::iter::once(OutboxEntry::merge(absorbed, survivor, manual));
    outbox::send(tx, merge.chain(changed.as_ref().map(OutboxEntry::user)).collect()).await
}

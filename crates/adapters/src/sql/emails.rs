//! A user's email in SQL. It is an identity of the user, and is given, changed and freed with it.

use std::collections::{HashMap, HashSet};

use ports::config_store::{IdentityKey, IdentityRules, NewUser, User};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::entities::{identity, user};
use super::{BOUND_MAX, Result, identities, unavailable, users};

/// Refuses an email that belongs to another user.
pub(super) async fn check(tx: &impl ConnectionTrait, rules: &IdentityRules, own: i64, email: &str) -> Result<()> {
    let same = user::Entity::find().filter(user::Column::Email.eq(email)).one(tx).await.map_err(unavailable)?;
    let owners = [same.map(|row| UserId(row.id)), identities::owner(tx, rules, &IdentityKey::email(email)).await?];
    match owners.into_iter().flatten().find(|owner| owner.0 != own) {
        Some(owner) => Err(User::email_taken(email, owner)),
        None => Ok(()),
    }
}

/// Makes an email an identity of the user, spelled as the email. The caller has checked that no
/// other user has it. Emails that two users had before emails became identities are an exception:
/// those stay with their owner.
pub(super) async fn claim(
    tx: &impl ConnectionTrait,
    rules: &IdentityRules,
    user: UserId,
    email: &str,
    now: Timestamp,
) -> Result<()> {
    let key = IdentityKey::email(email);
    let form = rules.form(&key);
    identities::keep(tx, rules, &[(key, user)], now).await?;
    let written = (form.id != email).then(|| email.to_owned());
    let spell = identity::Entity::update_many().filter(identity::Column::UserId.eq(user.0));
    let spell = spell.filter(identity::Column::IdType.eq(form.id_type)).filter(identity::Column::Id.eq(form.id));
    let spell = spell.col_expr(identity::Column::Spelling, sea_orm::sea_query::Expr::value(written));
    spell.exec(tx).await.map_err(unavailable)?;
    Ok(())
}

/// Like [`claim`], after a change. Returns the identities that the user lost.
pub(super) async fn change(
    tx: &impl ConnectionTrait,
    rules: &IdentityRules,
    user: &User,
    old: Option<&str>,
    now: Timestamp,
) -> Result<Vec<IdentityKey>> {
    let has: Vec<IdentityKey> = identities::own(tx, user.id.0).await?.into_iter().map(|own| own.key).collect();
    let freed = rules.freed_by_email(&has, old, user.email.as_deref());
    for form in &freed {
        let pair = (form.id_type.clone(), form.id.clone());
        identity::Entity::delete_by_id(pair).exec(tx).await.map_err(unavailable)?;
    }
    if let Some(email) = &user.email {
        claim(tx, rules, user.id, email, now).await?;
    }
    Ok(freed)
}

/// Gives the absorbed user's email to a survivor that has none. Returns the survivor if that
/// changed it.
pub(super) async fn merge(
    tx: &impl ConnectionTrait,
    survivor: UserId,
    absorbed: UserId,
    now: Timestamp,
) -> Result<Option<User>> {
    let row = user::Entity::find_by_id(absorbed.0).one(tx).await.map_err(unavailable)?;
    let Some(email) = row.and_then(|row| row.email) else { return Ok(None) };
    // First, because no two rows may have the same email. The identity belongs to the survivor in
    // any case.
    let freed = user::ActiveModel { id: Set(absorbed.0), email: Set(None), ..Default::default() };
    freed.update(tx).await.map_err(unavailable)?;
    let row = users::require(tx, survivor).await?;
    if row.email.is_some() {
        return Ok(None);
    }
    let given = user::ActiveModel {
        id: Set(survivor.0),
        email: Set(Some(email)),
        updated_at: Set(now.0),
        ..Default::default()
    };
    Ok(Some(users::bare(given.update(tx).await.map_err(unavailable)?)))
}

/// The emails and client ids that are in use, read at once for many new users.
pub(super) struct Taken<'a> {
    rules: &'a IdentityRules,
    /// The emails of existing users.
    rows: HashSet<String>,
    /// The forms of existing identities.
    forms: HashSet<IdentityKey>,
    client_refs: HashMap<String, UserId>,
}

impl<'a> Taken<'a> {
    pub(super) async fn of(tx: &impl ConnectionTrait, rules: &'a IdentityRules, new: &[NewUser]) -> Result<Self> {
        let emails: Vec<&str> = new.iter().filter_map(|user| user.email.as_deref()).collect();
        let forms: Vec<IdentityKey> = emails.iter().map(|email| rules.form(&IdentityKey::email(email))).collect();
        Ok(Self {
            rules,
            rows: users::present(tx, user::Column::Email, emails.iter().copied()).await?,
            forms: identities::by_pair(tx, &forms).await?.into_keys().collect(),
            client_refs: identities::by_client_refs(tx, &emails).await?,
        })
    }

    /// Claims the email. Returns whether it was free.
    pub(super) fn claim(&mut self, email: &str) -> bool {
        let form = self.rules.form(&IdentityKey::email(email));
        !self.rows.contains(email) && !self.client_refs.contains_key(email) && self.forms.insert(form)
    }

    /// Notes a new user: an email equal to their client id belongs to them.
    pub(super) fn note_created(&mut self, user: &User) {
        if let Some(client_id) = &user.client_ref_id {
            self.client_refs.insert(client_id.clone(), user.id);
        }
    }
}

/// Makes the emails of new users their identities. The caller has checked that they are free.
pub(super) async fn claim_all(
    tx: &impl ConnectionTrait,
    rules: &IdentityRules,
    new: &[User],
    now: Timestamp,
) -> Result<()> {
    let pairs = new.iter().filter_map(|user| Some((IdentityKey::email(user.email.as_deref()?), user.id)));
    let pairs: Vec<(IdentityKey, UserId)> = pairs.collect();
    for chunk in pairs.chunks(BOUND_MAX) {
        identities::keep(tx, rules, chunk, now).await?;
    }
    Ok(())
}

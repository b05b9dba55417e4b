//! Identities: which user a client's id belongs to, and what happens when two users turn out to be
//! one person.

use std::ops::Range;

use async_trait::async_trait;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, Resource, User};
use crate::ErrorCode;
use crate::identities::CaselessTypes;

/// The identity type of a user's email.
pub const EMAIL_TYPE: &str = "email";

/// A client's id of a user, with its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey {
    /// Cookie, email and so on; empty if the client gives none.
    pub id_type: String,
    /// Unique within its type.
    pub id: String,
}

impl IdentityKey {
    /// Returns the identity of an email.
    pub fn email(email: &str) -> Self {
        Self { id_type: EMAIL_TYPE.to_owned(), id: email.to_owned() }
    }
}

impl std::fmt::Display for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.id_type, self.id)
    }
}

/// An identity of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// In the spelling in which it was first written. Belongs to one user.
    pub key: IdentityKey,
    /// The owner; after a merge the survivor.
    pub user_id: UserId,
    /// When it was given to this user, or to one that this user absorbed.
    pub created_at: Timestamp,
}

impl Identity {
    /// Makes the conflict of giving an identity to a second user.
    pub fn taken(key: &IdentityKey, owner: UserId) -> ConfigStoreError {
        ConfigStoreError::conflict(
            ErrorCode::IdentityTaken,
            format!(
                "the identity {key} belongs to user {owner}; if both are one person, POST /api/v1/identities/link merges them"
            ),
        )
    }
}

/// What [`IdentityStore::attach_identity`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// Gave the user the identity.
    New(Identity),
    /// Nothing: the user already had it.
    Known(Identity),
}

/// What [`IdentityStore::resolve`] does with an identity that belongs to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Returns `None` for it.
    Reject,
    /// Creates a user with this identity. The user gets no `client_ref_id`, which would match ids
    /// of every type.
    Create,
}

/// Settings about identities, given to a store when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRules {
    /// Types of which a user has at most one. A merge that would give a user a second one is
    /// refused.
    pub exclusive: Vec<String>,
    /// Types whose ids compare without case.
    pub caseless: CaselessTypes,
}

impl Default for IdentityRules {
    fn default() -> Self {
        Self { exclusive: vec![EMAIL_TYPE.to_owned()], caseless: CaselessTypes::default() }
    }
}

impl IdentityRules {
    /// Returns the identity in the form in which it is stored and compared.
    pub fn form(&self, key: &IdentityKey) -> IdentityKey {
        IdentityKey { id_type: key.id_type.clone(), id: self.caseless.form(&key.id_type, &key.id).into_owned() }
    }

    /// Returns whether two spellings are one identity.
    pub fn same(&self, one: &IdentityKey, other: &IdentityKey) -> bool {
        one.id_type == other.id_type
            && self.caseless.form(&one.id_type, &one.id) == self.caseless.form(&other.id_type, &other.id)
    }

    /// Returns the identities that a user loses by a change of email: the old email, and all other
    /// emails if a user can have only one.
    pub fn freed_by_email(&self, has: &[IdentityKey], old: Option<&str>, new: Option<&str>) -> Vec<IdentityKey> {
        let form = |email: &str| self.form(&IdentityKey::email(email));
        let (old, new) = (old.map(form), new.map(form));
        if old == new {
            return Vec::new();
        }
        let is_only = new.is_some() && self.exclusive.iter().any(|exclusive| exclusive == EMAIL_TYPE);
        let emails = has.iter().filter(|own| own.id_type == EMAIL_TYPE).map(|own| self.form(own));
        emails.filter(|own| Some(own) != new.as_ref() && (is_only || Some(own) == old.as_ref())).collect()
    }
}

/// What [`IdentityStore::resolve`] returns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The owner of each identity, in the order of the call.
    pub owners: Vec<Option<UserId>>,
    /// The users that the call created.
    pub created: Vec<User>,
    /// The ids of their entries in the outbox, one for each.
    pub entries: Range<u64>,
}

/// Which user remains when two are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivor {
    /// The one that was created first.
    Older,
    /// The user of [`Link::from`].
    From,
    /// The user of [`Link::to`].
    To,
}

/// The statement that two identities belong to one person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// One identity.
    pub from: IdentityKey,
    /// The other identity.
    pub to: IdentityKey,
    /// Which user remains, if each identity has one.
    pub survivor: Survivor,
}

/// What [`IdentityStore::link`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The owner of both identities now.
    pub user_id: UserId,
    /// The user that the call merged into the owner.
    pub absorbed: Option<UserId>,
}

/// The identities of the config store.
///
/// An identity is resolved by these rules (`docs/concepts`): it belongs to the user that has this
/// pair of type and id; else to the user whose `client_ref_id` is the id, whatever the type, and
/// the user gets the pair; else to nobody. Pairs compare by the store's [`IdentityRules`], client
/// ids exactly.
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// Returns the identities of a user, ordered by type and id.
    async fn identities(&self, user: UserId) -> Result<Vec<Identity>, ConfigStoreError>;

    /// Gives a user an identity. Idempotent. Conflicts: `IDENTITY_TAKEN`, `IDENTITY_EXCLUSIVE`.
    async fn attach_identity(
        &self,
        user: UserId,
        key: IdentityKey,
        now: Timestamp,
    ) -> Result<Attached, ConfigStoreError>;

    /// Links two identities, and merges their users if they have two. Idempotent. A survivor
    /// without an email gets the absorbed user's. `NotFound` if neither belongs to a user.
    /// Conflict: `IDENTITY_EXCLUSIVE`.
    async fn link(&self, link: Link, now: Timestamp) -> Result<Linked, ConfigStoreError>;

    /// Returns the owner of a pair, if that is known without a query. Never waits. What it returns
    /// is true; `None` decides nothing.
    fn known(&self, id_type: &str, id: &str) -> Option<UserId>;

    /// Finds the owner of each identity. With [`Unknown::Create`] it looks for all of them, in any
    /// spelling, before it creates users for the rest.
    async fn resolve(
        &self,
        keys: &[IdentityKey],
        unknown: Unknown,
        now: Timestamp,
    ) -> Result<Resolution, ConfigStoreError>;
}

/// A user at one side of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSide {
    /// The user at this side.
    pub user_id: UserId,
    /// When the user was created.
    pub created_at: Timestamp,
    /// All identities of the user.
    pub identities: Vec<IdentityKey>,
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkDecision {
    /// Nothing: both already belong to this user.
    Nothing(UserId),
    /// Gives the user the other identity, which belonged to nobody.
    Attach(UserId, IdentityKey),
    /// Merges two users.
    Merge {
        /// The user that remains.
        survivor: UserId,
        /// The user that is merged into the survivor.
        absorbed: UserId,
    },
}

/// Decides what a link does, given the owners of its two identities.
pub fn decide_link(
    link: &Link,
    from: Option<&LinkSide>,
    to: Option<&LinkSide>,
    rules: &IdentityRules,
) -> Result<LinkDecision, ConfigStoreError> {
    let (from, to) = match (from, to) {
        (None, None) => {
            return Err(ConfigStoreError::not_found(Resource::Identity, format!("{} or {}", link.from, link.to)));
        }
        (Some(known), None) => return attach(known, &link.to, rules),
        (None, Some(known)) => return attach(known, &link.from, rules),
        (Some(from), Some(to)) => (from, to),
    };
    if from.user_id == to.user_id {
        return Ok(LinkDecision::Nothing(from.user_id));
    }
    for key in &from.identities {
        exclusive_conflict(to.user_id, &to.identities, key, rules)?;
    }
    let from_survives = match link.survivor {
        Survivor::From => true,
        Survivor::To => false,
        Survivor::Older => (from.created_at, from.user_id) < (to.created_at, to.user_id),
    };
    let (survivor, absorbed) = if from_survives { (from, to) } else { (to, from) };
    Ok(LinkDecision::Merge { survivor: survivor.user_id, absorbed: absorbed.user_id })
}

fn attach(known: &LinkSide, key: &IdentityKey, rules: &IdentityRules) -> Result<LinkDecision, ConfigStoreError> {
    exclusive_conflict(known.user_id, &known.identities, key, rules)?;
    Ok(LinkDecision::Attach(known.user_id, key.clone()))
}

/// Refuses to give a user a second identity of an exclusive type.
pub fn exclusive_conflict(
    user: UserId,
    has: &[IdentityKey],
    key: &IdentityKey,
    rules: &IdentityRules,
) -> Result<(), ConfigStoreError> {
    if !rules.exclusive.contains(&key.id_type) {
        return Ok(());
    }
    match has.iter().find(|own| own.id_type == key.id_type && !rules.same(own, key)) {
        None => Ok(()),
        Some(own) => Err(ConfigStoreError::conflict(
            ErrorCode::IdentityExclusive,
            format!(
                "user {user} has the {} {:?} and cannot also be {:?}: a user has one {}",
                key.id_type, own.id, key.id, key.id_type
            ),
        )),
    }
}

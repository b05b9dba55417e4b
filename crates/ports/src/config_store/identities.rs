//! Identities: which user a client's id means, and what happens when two users turn out to be one.

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, Resource, User};
use crate::ErrorCode;
use crate::identities::CaselessTypes;

/// The type of the identity that a user's email is.
pub const EMAIL_TYPE: &str = "email";

/// What a client calls a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityKey {
    /// What kind of id it is (cookie, email…); empty where the client gives none.
    pub id_type: String,
    /// The id.
    pub id: String,
}

impl IdentityKey {
    /// The identity that an email is.
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
    /// What the client calls the user, as it was first written. Belongs to one user.
    pub key: IdentityKey,
    /// The user: the survivor, after a merge.
    pub user_id: UserId,
    /// When it became this user's, or the absorbed one's.
    pub created_at: Timestamp,
}

impl Identity {
    /// The refusal to give an identity to a second user.
    pub fn taken(key: &IdentityKey, owner: UserId) -> ConfigStoreError {
        ConfigStoreError::conflict(
            ErrorCode::IdentityTaken,
            format!(
                "the identity {key} is user {owner}'s; if both are one person, POST /api/v1/identities/link merges them"
            ),
        )
    }
}

/// What [`IdentityStore::attach_identity`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attached {
    /// The user has it since this call.
    New(Identity),
    /// The user had it before; nothing changed.
    Known(Identity),
}

/// What [`IdentityStore::resolve`] does with an identity that nobody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Answers `None`.
    Reject,
    /// Makes a user of it, who has this identity and no `client_ref_id`: that would be theirs for every type of id.
    Create,
}

/// Settings about identities. A store has them from its opening on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRules {
    /// Types of which a user has at most one: a merge that would give it a second is refused.
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
    /// The identity in the form in which it is stored and compared.
    pub fn form(&self, key: &IdentityKey) -> IdentityKey {
        IdentityKey { id_type: key.id_type.clone(), id: self.caseless.form(&key.id_type, &key.id).into_owned() }
    }

    /// Whether both are one identity.
    pub fn same(&self, one: &IdentityKey, other: &IdentityKey) -> bool {
        one.id_type == other.id_type
            && self.caseless.form(&one.id_type, &one.id) == self.caseless.form(&other.id_type, &other.id)
    }

    /// Which identities, of those a user has, a change of its email takes away: the old email; all other emails too
    /// where a user may have one only.
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

/// What [`IdentityStore::resolve`] answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Whose each identity is, in the order asked.
    pub owners: Vec<Option<UserId>>,
    /// The users that this call made.
    pub created: Vec<User>,
}

/// Who remains when two users are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivor {
    /// The one that was created first.
    Older,
    /// The user of [`Link::from`].
    From,
    /// The user of [`Link::to`].
    To,
}

/// Two identities are one person's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// One.
    pub from: IdentityKey,
    /// The other.
    pub to: IdentityKey,
    /// Who remains, if both have users.
    pub survivor: Survivor,
}

/// What [`IdentityStore::link`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linked {
    /// Whose both identities now are.
    pub user_id: UserId,
    /// The user that was merged into it by this call.
    pub absorbed: Option<UserId>,
}

/// The identities of the config store. Resolution is `docs/concepts`' rule: the pair itself; else the user whose
/// `client_ref_id` is the id, whatever the type, and the pair becomes theirs; else unknown. Pairs compare as the store's
/// [`IdentityRules`] say, client ids exactly.
#[async_trait]
pub trait IdentityStore: Send + Sync + 'static {
    /// The identities of a user, by type and id.
    async fn identities(&self, user: UserId) -> Result<Vec<Identity>, ConfigStoreError>;

    /// Gives a user an identity; twice is once. Conflicts: `IDENTITY_TAKEN`, `IDENTITY_EXCLUSIVE`.
    async fn attach_identity(
        &self,
        user: UserId,
        key: IdentityKey,
        now: Timestamp,
    ) -> Result<Attached, ConfigStoreError>;

    /// Links two identities, merging their users if they have two. Repeating it changes nothing.
    /// A survivor without an email gets the absorbed user's. `NotFound` if nobody has either. Conflict:
    /// `IDENTITY_EXCLUSIVE`.
    async fn link(&self, link: Link, now: Timestamp) -> Result<Linked, ConfigStoreError>;

    /// Whose each identity is. With [`Unknown::Create`], all that are known in any spelling are found before a user is
    /// made of the rest.
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
    /// The user.
    pub user_id: UserId,
    /// When it was created.
    pub created_at: Timestamp,
    /// All that it has.
    pub identities: Vec<IdentityKey>,
}

/// What a link does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkDecision {
    /// Both are this user's already.
    Nothing(UserId),
    /// The user gets the other identity, which nobody had.
    Attach(UserId, IdentityKey),
    /// The second is merged into the first.
    Merge {
        /// Who remains.
        survivor: UserId,
        /// Who does not.
        absorbed: UserId,
    },
}

/// Decides on a link, given whose its two identities are.
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

//! Resolves a client's identity, as events give it, to the internal user.

use std::borrow::Cow;

use async_trait::async_trait;
use segment_engine::ids::{SegmentId, UserId};
use serde::{Deserialize, Serialize};

use crate::records::UserRecord;

/// A client's id of a user. Belongs to one user; a user can have many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// Cookie, email and so on; `None` if the client gives none.
    #[serde(default)]
    pub id_type: Option<String>,
    /// Unique within its type.
    pub id: String,
}

/// The identity types whose ids compare without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaselessTypes(Vec<String>);

impl CaselessTypes {
    /// Takes the names of the types.
    pub fn new(types: impl IntoIterator<Item = String>) -> Self {
        Self(types.into_iter().collect())
    }

    /// Iterates over the names of the types.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns the form in which ids of this type are compared: two ids are the same if their forms
    /// are equal. Idempotent.
    pub fn form<'a>(&self, id_type: &str, id: &'a str) -> Cow<'a, str> {
        let is_lower = |id: &str| id.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
        if is_lower(id) || !self.iter().any(|caseless| caseless == id_type) {
            return Cow::Borrowed(id);
        }
        Cow::Owned(id.to_lowercase())
    }
}

impl Default for CaselessTypes {
    fn default() -> Self {
        Self(vec!["email".to_owned()])
    }
}

impl Identity {
    /// Returns the identity with the id in the form in which it is compared.
    pub fn form(&self, caseless: &CaselessTypes) -> Identity {
        let id = caseless.form(self.id_type.as_deref().unwrap_or_default(), &self.id).into_owned();
        Identity { id_type: self.id_type.clone(), id }
    }
}

/// What [`Identities::create`] returns for one identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resolved {
    /// The owner.
    pub user_id: UserId,
    /// The record of a user that this call created; `None` if the identity was known.
    pub new: Option<UserRecord>,
}

/// What [`Identities::create`] returns.
pub struct Created {
    /// One for each identity, in the order of the call.
    pub users: Vec<Resolved>,
    /// Call [`Hold::appended`] when the records of the new users are in the log.
    ///
    /// The caller appends these records together with the users' first events, so that both have
    /// one instant. While the hold lasts, nobody else appends them. If the caller dies or drops the
    /// hold before it has appended them, the implementation does it.
    pub hold: Box<dyn Hold>,
}

/// Takes effect until it is dropped.
pub trait Hold: Send + Sync {
    /// Ends the hold and says that the records are in the log, so that nobody else need append
    /// them.
    fn appended(self: Box<Self>);
}

/// A user as the look-up by client id returns it, with the names of the public API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The internal id.
    pub id: UserId,
    /// The user's `clientRefId`, else the id of the user's first identity.
    pub client_ref_id: Option<String>,
    /// As in the config store.
    pub name: Option<String>,
    /// As in the config store.
    pub email: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
    /// The user's memberships.
    pub segments: Vec<ProfileSegment>,
}

/// One membership in a [`Profile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSegment {
    /// The same as [`Profile::id`].
    pub user_id: UserId,
    /// The segment that the user is in.
    pub segment_id: SegmentId,
    /// Since when: RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// Why identities could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The config store, or the service in front of it, failed; the same call may succeed later.
    #[error("users cannot be looked up now: {0}")]
    Unavailable(String),
}

/// The identities port. A result holds for the instant of the call: an unknown identity may be
/// known a moment later.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// For health checks: checks that users can be looked up and created.
    async fn ping(&self) -> Result<(), IdentityError>;

    /// Returns the owner of a pair of type and id, if that is known without a query. Never waits.
    /// `None` decides nothing: ask [`Identities::resolve`].
    fn known(&self, id_type: Option<&str>, id: &str) -> Option<UserId>;

    /// Returns the user of each identity, in the order of the call: the user with that pair of type
    /// and id; else the user whose `clientRefId` is the id, whatever the type, and the user gets
    /// the pair; else `None`. For a merged user it returns the survivor. Pairs of [`CaselessTypes`]
    /// compare without case, client ids exactly.
    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError>;

    /// Like [`Identities::resolve`], but creates a user for each unknown identity; one user if the
    /// same identity comes twice.
    async fn create(&self, identities: &[Identity]) -> Result<Created, IdentityError>;

    /// Returns the user with this `clientRefId`, else the oldest user that has an identity with
    /// this id.
    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError>;
}

//! Who an event belongs to: a client's identity, resolved to the internal user.

use std::borrow::Cow;

use async_trait::async_trait;
use segment_engine::event::UserId;
use serde::{Deserialize, Serialize};

use crate::records::UserRecord;

/// What a client knows a user by. Each belongs to one user; a user has many.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// What kind of id it is (cookie, email…); `None` if the client did not say.
    #[serde(default)]
    pub id_type: Option<String>,
    /// The id.
    pub id: String,
}

/// The types of ids that compare without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaselessTypes(Vec<String>);

impl CaselessTypes {
    /// These types.
    pub fn new(types: impl IntoIterator<Item = String>) -> Self {
        Self(types.into_iter().collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The form in which ids of this type are compared: ids are the same if their forms are equal. The form of a form is
    /// itself.
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
    /// The identity with its id in the form in which it is compared.
    pub fn form(&self, caseless: &CaselessTypes) -> Identity {
        let id = caseless.form(self.id_type.as_deref().unwrap_or_default(), &self.id).into_owned();
        Identity { id_type: self.id_type.clone(), id }
    }
}

/// What [`Identities::create`] answers for one identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resolved {
    /// Whose identity it is now.
    pub user_id: UserId,
    /// The record of a user that this call made; `None` if the identity was known.
    pub new: Option<UserRecord>,
}

/// What [`Identities::create`] answers.
pub struct Created {
    /// One for each identity, in the order asked.
    pub users: Vec<Resolved>,
    /// To be dropped when the records of the new users are in the log.
    ///
    /// The caller appends them together with the users' first events, so that both are one instant; as long as it holds
    /// this, nobody else tells the log of them. Implementations see to it that the log gets the records nonetheless if the
    /// caller dies, or drops this, before it has appended.
    pub hold: Hold,
}

/// Kept, not used.
pub type Hold = Box<dyn Send + Sync>;

/// A user as the look-up by client id answers it; the names are the public API's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The internal id.
    pub id: UserId,
    /// What clients call the user: its `clientRefId`, else the id of its first identity.
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
    /// The user.
    pub user_id: UserId,
    /// The segment.
    pub segment_id: i64,
    /// Since when: RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// Why identities could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The config store (or the service before it) does not answer; the same call may succeed later.
    #[error("users cannot be looked up now: {0}")]
    Unavailable(String),
}

/// The identities port. An answer holds for the instant of the call: "unknown" may be wrong a moment later.
#[async_trait]
pub trait Identities: Send + Sync + 'static {
    /// Whether users can be looked up and made: what a health check asks.
    async fn ping(&self) -> Result<(), IdentityError>;

    /// The user of each identity, in the order asked: the one with that pair of type and id; else the one whose
    /// `clientRefId` is the id, whatever the type, and the pair becomes theirs; else `None`. Merged users answer their
    /// survivor. Pairs of [`CaselessTypes`] are compared without case, client ids exactly.
    async fn resolve(&self, identities: &[Identity]) -> Result<Vec<Option<UserId>>, IdentityError>;

    /// As [`Identities::resolve`], but makes a user of each unknown identity. The same identity twice is one user.
    async fn create(&self, identities: &[Identity]) -> Result<Created, IdentityError>;

    /// The user whose `clientRefId` is this, else the oldest that has an identity with this id.
    async fn profile(&self, client_ref_id: &str) -> Result<Option<Profile>, IdentityError>;
}

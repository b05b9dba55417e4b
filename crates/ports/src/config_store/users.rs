//! Users, and their emails and client ids.

use async_trait::async_trait;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, IdentityKey, Membership, Page};

use crate::ErrorCode;

/// A user as the store has it, with all memberships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The internal id. Starts at 1 and is never reused.
    pub id: UserId,
    /// The client's id of the user, for identities of every type. Unique.
    pub client_ref_id: Option<String>,
    /// The id of the user's first identity, if there is no `client_ref_id`. Shown for users that
    /// were created for an unknown identity. Not unique, since equal ids of different types can
    /// belong to different users.
    pub first_identity: Option<String>,
    /// `users.name`.
    pub name: Option<String>,
    /// `users.email`. Unique, since it is also an identity of the user, of [`super::EMAIL_TYPE`].
    pub email: Option<String>,
    /// When the user was created.
    pub created_at: Timestamp,
    /// When name, email or client id last changed.
    pub updated_at: Timestamp,
    /// Computed and manual memberships, ordered by segment id.
    pub segments: Vec<Membership>,
    /// The absorbed user's id, if the user was looked up by it.
    pub merged_from: Option<UserId>,
}

/// A user to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUser {
    /// As in [`User`].
    pub client_ref_id: Option<String>,
    /// As in [`User`].
    pub name: Option<String>,
    /// As in [`User`].
    pub email: Option<String>,
}

/// What to change of a user: `None` leaves a field as it is, `Some(None)` empties it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserChange {
    /// As in [`User`].
    pub client_ref_id: Option<Option<String>>,
    /// As in [`User`].
    pub name: Option<Option<String>>,
    /// As in [`User`].
    pub email: Option<Option<String>>,
}

/// What [`UserStore::update_user`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatedUser {
    /// The user after the change.
    pub user: User,
    /// Identities that belong to nobody now; caches must forget them.
    pub freed: Vec<IdentityKey>,
}

/// The users of the config store.
///
/// A user's email is also an identity of the user: it is claimed, changed and freed with the email.
///
/// Every method takes the id of an absorbed user for the survivor's.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates a user. Conflicts: `CLIENT_REF_ID_TAKEN`; `EMAIL_TAKEN` if the email, or the
    /// identity that it is, belongs to another user.
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, ConfigStoreError>;

    /// Creates those of the users whose client id is unknown, in one transaction, and returns how
    /// many. An email that is taken is left out. `Invalid` if a user has no client id.
    async fn ensure_users(&self, new: Vec<NewUser>, now: Timestamp) -> Result<usize, ConfigStoreError>;

    /// Returns the user with this id.
    async fn user(&self, id: UserId) -> Result<Option<User>, ConfigStoreError>;

    /// Returns the user with this `client_ref_id`, else the oldest user that has an identity with
    /// this id, of any type.
    async fn user_by_client_id(&self, client_id: &str) -> Result<Option<User>, ConfigStoreError>;

    /// Returns a page of the users, without absorbed ones.
    async fn users(&self, page: Page) -> Result<Vec<User>, ConfigStoreError>;

    /// Changes a user. Conflicts as in [`UserStore::create_user`]. A new email replaces the old
    /// one, and all email identities of the user if a user can have only one.
    async fn update_user(
        &self,
        id: UserId,
        change: UserChange,
        now: Timestamp,
    ) -> Result<UpdatedUser, ConfigStoreError>;

    /// Deletes a user with identities, traits, memberships and the users that were absorbed.
    /// Returns the ids of all deleted users, the absorbed ones included; caches must forget them.
    async fn delete_user(&self, id: UserId) -> Result<Vec<UserId>, ConfigStoreError>;

    /// Counts the users, without absorbed ones.
    async fn count_users(&self) -> Result<u64, ConfigStoreError>;
}

impl User {
    /// Makes the conflict of giving an email to a second user.
    pub fn email_taken(email: &str, owner: UserId) -> ConfigStoreError {
        ConfigStoreError::conflict(
            ErrorCode::EmailTaken,
            format!(
                "the email {email:?} belongs to user {owner} already; if both are one person, change that user \
                 (PUT /api/v1/users/{owner}) or merge the two (POST /api/v1/identities/link)"
            ),
        )
    }

    /// Returns the id that clients know the user by.
    pub fn client_id(&self) -> Option<&str> {
        self.client_ref_id.as_deref().or(self.first_identity.as_deref())
    }

    /// Returns the user with a change applied.
    pub fn changed(mut self, change: UserChange, now: Timestamp) -> User {
        self.client_ref_id = change.client_ref_id.unwrap_or(self.client_ref_id);
        self.name = change.name.unwrap_or(self.name);
        self.email = change.email.unwrap_or(self.email);
        self.updated_at = now;
        self
    }
}

impl NewUser {
    /// Refuses users without a client id.
    pub fn require_client_ids(users: &[NewUser]) -> Result<(), ConfigStoreError> {
        if users.iter().all(|user| user.client_ref_id.is_some()) {
            return Ok(());
        }
        let message = "every user needs a clientRefId, which decides whether the user is known already".to_owned();
        Err(ConfigStoreError::Invalid { code: ErrorCode::ClientRefIdMissing, message })
    }
}

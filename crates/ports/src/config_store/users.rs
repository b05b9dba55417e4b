//! Users.

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use super::{ConfigStoreError, IdentityKey, Membership, Page};

use crate::ErrorCode;

/// A user as the store has it, with its memberships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The internal id: from 1, never given twice.
    pub id: UserId,
    /// The client's own id of the user, whatever the type of an identity. Unique.
    pub client_ref_id: Option<String>,
    /// The id of the user's first identity, where there is no `client_ref_id`: what clients call a user that was made of
    /// an unknown identity. Not unique, since ids of different types may be alike and mean different people; so it is no
    /// `client_ref_id` of the user.
    pub first_identity: Option<String>,
    /// `users.name`.
    pub name: Option<String>,
    /// `users.email`. Also an identity of the user, of [`super::EMAIL_TYPE`]; so it is unique.
    pub email: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When name, email or client id last changed.
    pub updated_at: Timestamp,
    /// What the engine has told, and the manual ones, by segment id.
    pub segments: Vec<Membership>,
    /// The absorbed user's id, where the user was asked for by it.
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
    /// The user as it is now.
    pub user: User,
    /// Identities that it had and that are nobody's now: whoever remembers them must forget them.
    pub freed: Vec<IdentityKey>,
}

/// The users of the config store.
///
/// A user's email is an identity of it: claimed, changed and freed with the email.
///
/// Wherever a method takes a user's id, the id of an absorbed user stands for its survivor.
#[async_trait]
pub trait UserStore: Send + Sync + 'static {
    /// Creates a user. Conflicts: `CLIENT_REF_ID_TAKEN`; `EMAIL_TAKEN` if the email is another user's, or an identity
    /// that means another user.
    async fn create_user(&self, new: NewUser, now: Timestamp) -> Result<User, ConfigStoreError>;

    /// Creates those of these users whose client id is unknown, in one transaction, and answers how many. An email that
    /// is taken is left out. Every one needs a client id: `Invalid` otherwise.
    async fn ensure_users(&self, new: Vec<NewUser>, now: Timestamp) -> Result<usize, ConfigStoreError>;

    /// A user by id.
    async fn user(&self, id: UserId) -> Result<Option<User>, ConfigStoreError>;

    /// A user by the client's id: the one with this `client_ref_id`, else the oldest that has an identity with this id,
    /// of whatever type.
    async fn user_by_client_id(&self, client_id: &str) -> Result<Option<User>, ConfigStoreError>;

    /// The users by id, absorbed ones left out.
    async fn users(&self, page: Page) -> Result<Vec<User>, ConfigStoreError>;

    /// Changes a user. Conflicts as in [`UserStore::create_user`]. A new email takes the place of the old one, and of
    /// all email identities of the user if it may have one only.
    async fn update_user(
        &self,
        id: UserId,
        change: UserChange,
        now: Timestamp,
    ) -> Result<UpdatedUser, ConfigStoreError>;

    /// Deletes a user with its identities, traits, memberships, and the users that it absorbed. Answers all who are gone,
    /// the absorbed ones too: whoever remembers one of their ids must forget it.
    async fn delete_user(&self, id: UserId) -> Result<Vec<UserId>, ConfigStoreError>;

    /// How many users there are, absorbed ones left out.
    async fn count_users(&self) -> Result<u64, ConfigStoreError>;
}

impl User {
    /// The refusal to give an email to a second user.
    pub fn email_taken(email: &str, owner: UserId) -> ConfigStoreError {
        ConfigStoreError::conflict(
            ErrorCode::EmailTaken,
            format!(
                "the email {email:?} is user {owner}'s already; if both are one person, change that user \
                 (PUT /api/v1/users/{owner}) or merge the two (POST /api/v1/identities/link)"
            ),
        )
    }

    /// What clients call the user.
    pub fn client_id(&self) -> Option<&str> {
        self.client_ref_id.as_deref().or(self.first_identity.as_deref())
    }

    /// The user after a change.
    pub fn changed(mut self, change: UserChange, now: Timestamp) -> User {
        self.client_ref_id = change.client_ref_id.unwrap_or(self.client_ref_id);
        self.name = change.name.unwrap_or(self.name);
        self.email = change.email.unwrap_or(self.email);
        self.updated_at = now;
        self
    }
}

impl NewUser {
    /// Refuses users without a client id, where that is what makes them known.
    pub fn require_client_ids(users: &[NewUser]) -> Result<(), ConfigStoreError> {
        if users.iter().all(|user| user.client_ref_id.is_some()) {
            return Ok(());
        }
        let message = "every user needs a clientRefId: it says whether the user is known already".to_owned();
        Err(ConfigStoreError::Invalid { code: ErrorCode::ClientRefIdMissing, message })
    }
}

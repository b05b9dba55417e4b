//! The config store: users, identities, traits, activities, segments and memberships, and the outbox that carries what
//! the engine must learn of them to the log.
//!
//! Every write that can change a membership writes its record into the outbox in the same transaction; a relay appends
//! the rows to the log. So the store and the log never disagree for longer than the relay takes.
//!
//! The port is split by resource, one trait and one file each, so that an adapter can be too.

mod activities;
mod identities;
mod memberships;
mod outbox;
mod segments;
mod traits;
mod users;

pub use activities::{Activity, ActivityChange, ActivityStore, NewActivity};
pub use identities::{
    Attached, EMAIL_TYPE, Identity, IdentityKey, IdentityRules, IdentityStore, Link, LinkDecision, LinkSide, Linked,
    Resolution, Survivor, Unknown, decide_link, exclusive_conflict,
};
pub use memberships::{Applied, ManualSet, Member, Membership, MembershipBatch, MembershipChange, MembershipStore};
pub use outbox::{Outbox, OutboxEntry, OutboxRow};
pub use segments::{
    NewSegment, Segment, SegmentChange, SegmentKind, SegmentStore, change_segment, cycle_refused, in_use, unknown_tags,
};
pub use traits::{TRAITS_BYTES_MAX, TRAITS_MAX, TraitStore, TraitValue, Traits, merge_traits, set_newer, true_since};
pub use users::{NewUser, UpdatedUser, User, UserChange, UserStore};

use std::fmt;

use crate::ErrorCode;

/// The whole port. Cheap to share behind an `Arc<dyn ConfigStore>`.
#[async_trait::async_trait]
pub trait ConfigStore:
    UserStore + IdentityStore + TraitStore + ActivityStore + SegmentStore + MembershipStore + Outbox
{
    /// Whether the store answers and can write: what a health check asks. It writes only if the last write failed, to see
    /// whether the next one would.
    async fn ping(&self) -> Result<(), ConfigStoreError>;

    /// Wipes what deleted and changed rows have left in the store's files. To be called now and then.
    async fn scrub(&self) -> Result<(), ConfigStoreError>;

    /// The last ids that were given, those of rows that are gone included.
    async fn last_ids(&self) -> Result<LastIds, ConfigStoreError>;

    /// For a store that has lost its newest rows: from now on ids begin after `last`, where they do not already, and
    /// `entries` are the first rows of the outbox. As a whole or not at all.
    async fn go_on_after(&self, last: LastIds, entries: Vec<OutboxEntry>) -> Result<(), ConfigStoreError>;
}

/// The last id that was given of each kind that the log knows; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastIds {
    /// Of users.
    pub user: i64,
    /// Of segments.
    pub segment: i64,
    /// Of rows of the outbox.
    pub outbox: u64,
}

/// Which rows of a list: those after the cursor, in ascending order of id, at most `limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The last id of the page before; 0 for the first.
    pub after: i64,
    /// At most this many rows.
    pub limit: usize,
}

impl Page {
    /// Everything: for lists that are known to be short.
    pub const ALL: Page = Page { after: 0, limit: i64::MAX as usize };
}

/// What the config store can be asked for by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Resource {
    User,
    Segment,
    Activity,
    Identity,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resource::User => "user",
            Resource::Segment => "segment",
            Resource::Activity => "activity",
            Resource::Identity => "identity",
        })
    }
}

/// Why the store could not do it. The kinds differ by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigStoreError {
    /// There is no such thing. Callers answer 404.
    #[error("there is no {what} {id}")]
    NotFound {
        /// What was asked for.
        what: Resource,
        /// As asked.
        id: String,
    },
    /// It contradicts what is stored; nothing was written. Callers answer 409 and show the message.
    #[error("{message}")]
    Conflict {
        /// For programs.
        code: ErrorCode,
        /// Says what is in the way and what to do.
        message: String,
    },
    /// The input can never be stored as it is. Callers answer 400 and show the message.
    #[error("{message}")]
    Invalid {
        /// For programs.
        code: ErrorCode,
        /// Says what to change.
        message: String,
    },
    /// It is down, busy or full; nothing was written. Callers answer 503, and may try again.
    #[error("the config store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored cannot be read back. Needs an operator.
    #[error("the config store is damaged: {0}")]
    Corrupt(String),
}

impl ConfigStoreError {
    /// [`ConfigStoreError::NotFound`].
    pub fn not_found(what: Resource, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// [`ConfigStoreError::Conflict`].
    pub fn conflict(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    /// The conflict of a value that must be unique and is another row's.
    pub fn taken(code: ErrorCode, what: &str, value: &str, owner: i64) -> Self {
        Self::conflict(
            code,
            format!("the {what} {value:?} belongs to {owner} already; choose another or change that one first"),
        )
    }
}

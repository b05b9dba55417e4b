//! The config store: users, identities, traits, activities, segments and memberships, and the
//! outbox with the changes that the engine must learn of.
//!
//! Every write that can change a membership writes a record to the outbox in the same transaction;
//! a relay appends these records to the log. So store and log never disagree for longer than the
//! relay takes.
//!
//! The port has one trait and one file per resource, so that an adapter can have the same.

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
pub use memberships::{
    Applied, ManualSet, Member, Membership, MembershipBatch, MembershipChange, MembershipStore, NetMembership,
};
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
    /// For health checks: checks that the store can be read and written. It writes only if the last
    /// write failed, to see whether the next one would succeed.
    async fn ping(&self) -> Result<(), ConfigStoreError>;

    /// Wipes what deleted and changed rows have left in the store's files. Call it now and then.
    async fn wipe(&self) -> Result<(), ConfigStoreError>;

    /// Returns the last ids that were assigned, counting deleted rows.
    async fn last_ids(&self) -> Result<LastIds, ConfigStoreError>;

    /// For a store that has lost its newest rows: from now on new ids are greater than `last`, and
    /// `entries` are the first rows of the outbox. Atomic.
    async fn go_on_after(&self, last: LastIds, entries: Vec<OutboxEntry>) -> Result<(), ConfigStoreError>;
}

/// The last id that was assigned, of each kind that the log knows; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastIds {
    /// The last user's.
    pub user: i64,
    /// The last segment's.
    pub segment: i64,
    /// The last outbox row's.
    pub outbox: u64,
}

/// A page of a list in ascending order of id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The last id of the page before; 0 for the first.
    pub after: i64,
    /// The most rows to return.
    pub limit: usize,
}

impl Page {
    /// The whole list, if it is known to be short.
    pub const ALL: Page = Page { after: 0, limit: i64::MAX as usize };
}

/// A kind of rows that are looked up by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
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

/// Why a call failed. The kinds differ by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigStoreError {
    /// There is no such row. Becomes a 404.
    #[error("there is no {what} {id}")]
    NotFound {
        /// The kind of row.
        what: Resource,
        /// As the caller gave it.
        id: String,
    },
    /// The change contradicts what is stored; nothing was written. Becomes a 409 with the message.
    #[error("{message}")]
    Conflict {
        /// Stable, for programs.
        code: ErrorCode,
        /// Says what the change conflicts with and what to do.
        message: String,
    },
    /// The input can never be stored as it is. Becomes a 400 with the message.
    #[error("{message}")]
    Invalid {
        /// For programs.
        code: ErrorCode,
        /// Says what to change.
        message: String,
    },
    /// The store is down, busy or full; nothing was written. Becomes a 503; clients may try again.
    #[error("the config store is unavailable: {0}")]
    Unavailable(String),
    /// A stored row cannot be read. Needs an operator.
    #[error("the config store is damaged: {0}")]
    Corrupt(String),
}

impl ConfigStoreError {
    /// Makes a [`ConfigStoreError::NotFound`].
    pub fn not_found(what: Resource, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// Makes a [`ConfigStoreError::Conflict`].
    pub fn conflict(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }

    /// Makes the conflict of a unique value that another row has.
    pub fn taken(code: ErrorCode, what: &str, value: &str, owner: i64) -> Self {
        Self::conflict(
            code,
            format!("the {what} {value:?} belongs to {owner} already; choose another or change that one first"),
        )
    }
}

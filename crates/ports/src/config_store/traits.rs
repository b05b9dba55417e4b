//! Traits: a user's attributes, each with the instant from which it is true.

use std::collections::BTreeMap;

use async_trait::async_trait;
use segment_engine::event::UserId;
use segment_engine::time::Timestamp;

use super::ConfigStoreError;
use crate::records::json_text::JsonText;

/// One trait. A removed one is kept as null, so that an older write that comes late does not bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitValue {
    /// Any JSON, as it was sent; null if it was removed.
    pub value: JsonText,
    /// Since when it is true, by the client's word.
    pub created_at: Timestamp,
}

/// A user's traits by key.
pub type Traits = BTreeMap<String, TraitValue>;

/// The traits of the config store.
#[async_trait]
pub trait TraitStore: Send + Sync + 'static {
    /// The traits of a user, removed ones included.
    async fn traits(&self, user: UserId) -> Result<Traits, ConfigStoreError>;

    /// Sets traits key by key: the newer `created_at` wins, and of two equal ones the later call. `null` removes.
    /// Answers all of them.
    async fn set_traits(
        &self,
        user: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: Timestamp,
    ) -> Result<Traits, ConfigStoreError>;
}

/// The union of a survivor's traits and an absorbed user's: key by key the newer wins, of equal ones the survivor's.
pub fn merge_traits(mut survivor: Traits, absorbed: Traits) -> Traits {
    for (key, theirs) in absorbed {
        match survivor.get(&key) {
            Some(ours) if ours.created_at >= theirs.created_at => {}
            _ => {
                survivor.insert(key, theirs);
            }
        }
    }
    survivor
}

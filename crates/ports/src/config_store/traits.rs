//! Traits: a user's attributes, each with the instant from which it holds.

use std::collections::BTreeMap;

use async_trait::async_trait;
use segment_engine::ids::UserId;
use segment_engine::time::Timestamp;

use super::ConfigStoreError;
use crate::ErrorCode;
use crate::records::json_text::JsonText;

/// One trait. A removed trait is kept as null, so that an older write that arrives late does not
/// bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraitValue {
    /// Any JSON, as it was sent; null if the trait was removed.
    pub value: JsonText,
    /// The instant from which it holds, as the client says.
    pub created_at: Timestamp,
}

/// How far a trait's `created_at` may be ahead of its receipt, in microseconds: as far as clocks
/// that are set differ. Without a bound, a client with a clock years ahead could set a trait that
/// nobody could change for years.
const AHEAD_MICROS_MAX: i64 = 5 * 60 * 1_000_000;

/// Returns the instant from which a trait received at `at` holds: `created_at`, or `at` if that is
/// more than five minutes ahead. Call it where the trait is received, so that the store, the log
/// and its readers have one instant.
pub fn true_since(created_at: Timestamp, at: Timestamp) -> Timestamp {
    if created_at.0 > at.0.saturating_add(AHEAD_MICROS_MAX) { at } else { created_at }
}

/// A user's traits by key.
pub type Traits = BTreeMap<String, TraitValue>;

/// The traits of the config store.
#[async_trait]
pub trait TraitStore: Send + Sync + 'static {
    /// Returns the traits of a user, including removed ones.
    async fn traits(&self, user: UserId) -> Result<Traits, ConfigStoreError>;

    /// Sets traits key by key: the newer `created_at` wins, and of two equal ones the later call.
    /// `null` removes a trait. Returns all traits of the user.
    async fn set_traits(
        &self,
        user: UserId,
        traits: BTreeMap<String, JsonText>,
        created_at: Timestamp,
    ) -> Result<Traits, ConfigStoreError>;
}

/// The most traits of a user, including removed ones, which are kept as null.
pub const TRAITS_MAX: usize = 10_000;
/// The most bytes of a user's traits: names and JSON.
pub const TRAITS_BYTES_MAX: usize = 1 << 20;

/// Sets traits as [`TraitStore::set_traits`] does. Returns those that took effect.
///
/// # Errors
/// [`ConfigStoreError::Conflict`] with the code `TRAITS_FULL` if afterwards the user had more than
/// the bounds and more than before. So a user that has too many since a merge can still lose some.
pub fn set_newer(
    own: &mut Traits,
    traits: &BTreeMap<String, JsonText>,
    created_at: Timestamp,
) -> Result<Traits, ConfigStoreError> {
    let before = size(own);
    let newer = traits.iter().filter(|(key, _)| own.get(*key).is_none_or(|old| old.created_at <= created_at));
    let set: Traits =
        newer.map(|(key, value)| (key.clone(), TraitValue { value: value.clone(), created_at })).collect();
    let mut all = own.clone();
    all.extend(set.clone());
    let (count, bytes) = size(&all);
    if count > TRAITS_MAX.max(before.0) || bytes > TRAITS_BYTES_MAX.max(before.1) {
        return Err(ConfigStoreError::conflict(
            ErrorCode::TraitsFull,
            format!(
                "the user would have {count} traits of {bytes} bytes; at most {TRAITS_MAX} traits (removed ones included) and \
                 {TRAITS_BYTES_MAX} bytes of names and values are kept per user. Shorten or remove some, and keep histories in events"
            ),
        ));
    }
    *own = all;
    Ok(set)
}

/// Returns the number of traits, and their bytes.
fn size(traits: &Traits) -> (usize, usize) {
    (traits.len(), traits.iter().map(|(key, kept)| key.len() + kept.value.as_str().len()).sum())
}

/// Merges an absorbed user's traits into a survivor's: key by key the newer wins, of two equally
/// new the survivor's.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_minutes_ahead_are_accepted_and_a_microsecond_more_becomes_the_receipt() {
        let at = 1_700_000_000_000_000;
        let cases = [
            (at - 1, at - 1),
            (at, at),
            (at + 300_000_000, at + 300_000_000),
            (at + 300_000_001, at),
            (i64::MAX, at),
            (i64::MIN, i64::MIN),
        ];
        for (created_at, expected) in cases {
            assert_eq!(true_since(Timestamp(created_at), Timestamp(at)), Timestamp(expected), "{created_at}");
        }
        assert_eq!(true_since(Timestamp(i64::MAX), Timestamp(i64::MAX - 1)), Timestamp(i64::MAX));
    }
}

//! What every config store must do.

#![allow(clippy::unwrap_used, reason = "a suite fails by panicking")]

mod activities;
mod emails;
mod identities;
mod ids;
mod memberships;
mod outbox;
mod segments;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use segment_engine::time::Timestamp;

use ports::config_store::{
    ConfigStore, ConfigStoreError, IdentityKey, IdentityRules, NewSegment, NewUser, SegmentKind, User,
};
use ports::identities::CaselessTypes;
use ports::records::json_text::JsonText;

/// A store as the cases see it.
pub type Store = Arc<dyn ConfigStore>;

/// Runs the whole suite; `open` opens an empty store each time it is called.
pub async fn run<Opening>(open: impl Fn(IdentityRules) -> Opening)
where
    Opening: Future<Output = Store>,
{
    let fresh = || open(IdentityRules::default());
    fresh().await.ping().await.unwrap();
    ids::begin_after_what_was_given(fresh().await).await;
    ids::go_on_after_what_was_lost(fresh().await).await;
    users::create_read_change_delete(fresh().await).await;
    users::unique_fields_conflict(fresh().await).await;
    users::ensure_creates_the_unknown_only(fresh().await).await;
    users::pages_follow_each_other(fresh().await).await;
    users::traits_newer_wins(fresh().await).await;
    users::traits_stand_as_they_were_sent(fresh().await).await;
    users::traits_of_a_user_are_bounded(fresh().await).await;
    identities::resolution_order(fresh().await).await;
    identities::unknown_ones_become_users(fresh().await).await;
    identities::attach_conflicts(fresh().await).await;
    identities::link_merges_once(fresh().await).await;
    identities::chains_of_merges_stay_flat(fresh().await).await;
    identities::exclusive_types_refuse(fresh().await).await;
    let none = IdentityRules { exclusive: Vec::new(), ..IdentityRules::default() };
    identities::types_that_are_not_exclusive_merge(open(none.clone()).await).await;
    emails::are_identities(fresh().await).await;
    emails::come_before_or_after_their_events(fresh().await).await;
    emails::change_and_are_freed(fresh().await).await;
    emails::compare_without_case(fresh().await).await;
    emails::are_found_in_any_spelling_of_a_batch(fresh().await).await;
    emails::of_new_users_are_left_out_if_taken(fresh().await).await;
    emails::merge(fresh().await).await;
    emails::that_are_not_exclusive_stay(open(none).await).await;
    let exact = IdentityRules { caseless: CaselessTypes::new([]), ..IdentityRules::default() };
    emails::compare_exactly_if_told_so(open(exact).await).await;
    activities::create_change_link_delete(fresh().await).await;
    segments::create_change_delete(fresh().await).await;
    segments::tags_in_use_stay(fresh().await).await;
    segments::cycles_are_refused(fresh().await).await;
    segments::a_new_tag_and_clause_fit_each_other(fresh().await).await;
    segments::generics_and_linked(fresh().await).await;
    memberships::batches_apply_once(fresh().await).await;
    memberships::many_rows(fresh().await).await;
    memberships::manual_lists(fresh().await).await;
    memberships::manual_lists_survive_merges(fresh().await).await;
    outbox::tells_every_change_in_order(fresh().await).await;
    outbox::forgets_what_was_sent(fresh().await).await;
    outbox::refused_writes_tell_nothing(fresh().await).await;
}

/// An instant for the cases: seconds since 1970.
fn at(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000)
}

fn key(id_type: &str, id: &str) -> IdentityKey {
    IdentityKey { id_type: id_type.to_owned(), id: id.to_owned() }
}

async fn user(store: &Store, client_id: &str) -> User {
    let new = NewUser { client_ref_id: Some(client_id.to_owned()), ..NewUser::default() };
    store.create_user(new, at(1)).await.unwrap()
}

fn clause(tag: &str, kind: SegmentKind, uses: &[&str]) -> NewSegment {
    NewSegment {
        title: tag.to_owned(),
        description: None,
        tag: tag.to_owned(),
        where_statement: uses.iter().map(|tag| format!("segment('{tag}')")).collect::<Vec<_>>().join(" AND "),
        is_generic: false,
        kind,
        uses: uses.iter().map(|&tag| tag.to_owned()).collect(),
    }
}

fn code(error: ConfigStoreError) -> &'static str {
    match error {
        ConfigStoreError::Conflict { code, .. } | ConfigStoreError::Invalid { code, .. } => code.as_str(),
        ConfigStoreError::NotFound { .. } => "NOT_FOUND",
        other => panic!("unexpected: {other}"),
    }
}

fn traits(text: &str) -> BTreeMap<String, JsonText> {
    serde_json::from_str(text).unwrap()
}

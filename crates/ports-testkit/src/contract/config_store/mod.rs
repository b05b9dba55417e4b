//! The suite of the config store port.

#![expect(clippy::unwrap_used, reason = "a suite fails by panicking")]

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

/// The store that a case checks.
pub type Store = Arc<dyn ConfigStore>;

/// Runs the whole suite; `open` returns an empty store at each call.
pub async fn run<Opening>(open: impl Fn(IdentityRules) -> Opening)
where
    Opening: Future<Output = Store>,
{
    let empty = || open(IdentityRules::default());
    empty().await.ping().await.unwrap();
    ids::last_ids_count_deleted_rows(empty().await).await;
    ids::ids_go_on_after_lost_rows(empty().await).await;
    users::create_read_change_delete(empty().await).await;
    users::unique_fields_conflict(empty().await).await;
    users::ensure_creates_only_unknown_users(empty().await).await;
    users::pages_cover_all_users_in_order(empty().await).await;
    users::the_newer_trait_wins(empty().await).await;
    users::traits_are_kept_as_they_were_sent(empty().await).await;
    users::traits_of_a_user_are_bounded(empty().await).await;
    identities::the_pair_decides_before_the_client_id(empty().await).await;
    identities::unknown_identities_become_users(empty().await).await;
    identities::many_unknown_identities_become_users(empty().await).await;
    identities::what_is_known_is_true(empty().await).await;
    identities::attach_conflicts(empty().await).await;
    identities::a_link_merges_once(empty().await).await;
    identities::chains_of_merges_stay_flat(empty().await).await;
    identities::links_that_break_an_exclusive_type_are_refused(empty().await).await;
    let none = IdentityRules { exclusive: Vec::new(), ..IdentityRules::default() };
    identities::types_that_are_not_exclusive_merge(open(none.clone()).await).await;
    emails::are_identities(empty().await).await;
    emails::come_before_or_after_their_events(empty().await).await;
    emails::change_and_are_freed(empty().await).await;
    emails::compare_without_case(empty().await).await;
    emails::are_found_in_any_spelling_of_a_batch(empty().await).await;
    emails::of_new_users_are_left_out_if_taken(empty().await).await;
    emails::merge(empty().await).await;
    emails::stay_if_not_exclusive(open(none).await).await;
    let exact = IdentityRules { caseless: CaselessTypes::new([]), ..IdentityRules::default() };
    emails::compare_exactly_if_set_so(open(exact).await).await;
    activities::create_change_link_delete(empty().await).await;
    segments::create_change_delete(empty().await).await;
    segments::tags_in_use_stay(empty().await).await;
    segments::cycles_are_refused(empty().await).await;
    segments::a_new_tag_and_a_new_clause_are_checked_together(empty().await).await;
    segments::generic_and_linked_segments_are_listed(empty().await).await;
    memberships::a_batch_is_applied_once(empty().await).await;
    memberships::the_last_change_of_a_batch_counts(empty().await).await;
    memberships::batches_of_many_partitions_do_not_mix(empty().await).await;
    memberships::a_large_batch_is_applied(empty().await).await;
    memberships::manual_segments_are_set(empty().await).await;
    memberships::manual_segments_survive_merges(empty().await).await;
    outbox::records_every_change_in_order(empty().await).await;
    outbox::deletes_sent_rows(empty().await).await;
    outbox::has_an_entry_for_each_of_many_new_users(empty().await).await;
    outbox::records_nothing_of_refused_writes(empty().await).await;
}

/// Returns an instant in seconds since 1970.
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

//! `/api/v1/db-actions`: sample data, and sample events for it.

use axum::extract::State;
use ports::config_store::{ConfigStoreError, NewSegment, Page, SegmentKind, User};
use uss_http::extract::JsonContentType;
use uss_http::{Kind, Problem};

use super::segments::clause;
use crate::api::Api;
use crate::seed::{analytics, data};
use crate::wire::response::{DONE, Data};

/// Loads the sample users, segments and events if there are neither users nor segments. Returns
/// whether it did.
///
/// # Errors
/// What was loaded before the error stays.
pub async fn load_sample_data(api: Api) -> Result<bool, Problem> {
    let one = Page { after: 0, limit: 1 };
    if !api.store.users(one).await?.is_empty() || !api.store.segments(one).await?.is_empty() {
        return Ok(false);
    }
    add_sample_data(&api).await?;
    api.written.notify_one();
    send_sample_events(&api).await?;
    Ok(true)
}

/// Adds the sample users, activities and segments that are missing, and changes nothing else.
pub(crate) async fn seed_data(State(api): State<Api>, _: JsonContentType) -> Result<Data<bool>, Problem> {
    add_sample_data(&api).await
}

async fn add_sample_data(api: &Api) -> Result<Data<bool>, Problem> {
    api.store.ensure_users(data::users(), api.now()).await?;
    for activity in data::activities() {
        if api.store.activity_by_code(&activity.code).await?.is_none() {
            ignore_taken(api.store.create_activity(activity, api.now()).await)?;
        }
    }
    for sample in data::segments() {
        if api.store.segment_by_tag(sample.tag).await?.is_none() {
            create_segment(api, sample).await?;
        }
    }
    Ok(DONE)
}

/// A conflict says that somebody else has created it since the check, which is as good.
fn ignore_taken<T>(created: Result<T, ConfigStoreError>) -> Result<Option<T>, ConfigStoreError> {
    match created {
        Ok(created) => Ok(Some(created)),
        Err(ConfigStoreError::Conflict { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn create_segment(api: &Api, sample: data::SampleSegment) -> Result<(), Problem> {
    let uses = clause::checked(sample.where_statement)?.segments;
    let new = NewSegment {
        title: sample.title.to_owned(),
        description: Some(sample.description.to_owned()),
        tag: sample.tag.to_owned(),
        where_statement: sample.where_statement.to_owned(),
        is_generic: sample.activity.is_none(),
        kind: SegmentKind::Computed,
        uses,
    };
    let Some(created) = ignore_taken(api.store.create_segment(new, api.now()).await)? else { return Ok(()) };
    let Some(code) = sample.activity else { return Ok(()) };
    if let Some(activity) = api.store.activity_by_code(code).await? {
        api.store.link_activity(activity.id, created.id).await?;
    }
    Ok(())
}

/// Sends the sample events; `false` if there are no users to send them for.
pub(crate) async fn seed_analytics(State(api): State<Api>, _: JsonContentType) -> Result<Data<bool>, Problem> {
    send_sample_events(&api).await
}

async fn send_sample_events(api: &Api) -> Result<Data<bool>, Problem> {
    let users = api.store.users(Page { after: 0, limit: analytics::USERS_MAX }).await?;
    let mut identities = Vec::with_capacity(users.len());
    for user in users.into_iter().filter(|user| user.id.0 != data::FIRST_USER) {
        identities.extend(client_identity(api, user).await?);
    }
    if identities.is_empty() {
        return Ok(Data(false));
    }
    let outcome = api.events.submit(analytics::events(&identities, api.now())).await;
    if let Some(refused) = outcome.rejected.first() {
        return Err(Problem::internal(format!("sample event {} was refused: {}", refused.index, refused.message)));
    }
    if let Some(waiting) = outcome.not_admitted.first() {
        let message = format!("{} sample events were not taken: {}", outcome.not_admitted.len(), waiting.message);
        return Err(Problem::new(Kind::Unavailable, waiting.code, message));
    }
    Ok(DONE)
}

/// Returns an identity that events can name the user by, if there is one.
async fn client_identity(api: &Api, user: User) -> Result<Option<analytics::Identity>, Problem> {
    if let Some(id) = user.client_ref_id {
        return Ok(Some(analytics::Identity { id_type: "cookie".to_owned(), id }));
    }
    let first = api.store.identities(user.id).await?.into_iter().next();
    Ok(first.map(|identity| analytics::Identity { id_type: identity.key.id_type, id: identity.key.id }))
}

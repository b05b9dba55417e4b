//! Identities: listing those of a user, linking two, and resolving many for ingestion.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use ports::ErrorCode;
use ports::config_store::{Attached, IdentityKey, Link, OutboxEntry, Resolution, Survivor, Unknown, User};
use ports::identities::Resolved;
use segment_engine::ids::UserId;
use serde::Deserialize;
use serde_json::{Value, json};
use uss_http::Problem;
use uss_http::extract::{Json, Path};

use crate::api::Api;
use crate::wire::fields;
use crate::wire::response::{Created, Data};
use crate::wire::views::IdentityView;

/// Identities in one call of resolve.
const RESOLVE_MAX: usize = 50_000;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeyBody {
    #[serde(default, alias = "id_type")]
    id_type: Option<String>,
    id: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct LinkBody {
    from: KeyBody,
    to: KeyBody,
    #[serde(default)]
    survivor: Option<SurvivorBody>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SurvivorBody {
    Older,
    From,
    To,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ResolveBody {
    identities: Vec<KeyBody>,
    #[serde(default)]
    create: bool,
}

impl KeyBody {
    /// As an administrator writes it: both parts are required.
    fn named(self) -> Result<IdentityKey, Problem> {
        fields::name("idType", self.id_type.as_deref().unwrap_or_default())?;
        fields::name("id", &self.id)?;
        Ok(self.key())
    }

    /// As events have it: the type may be missing, and both may be any string.
    fn of_event(self) -> Result<IdentityKey, Problem> {
        fields::string("idType", self.id_type.as_deref().unwrap_or_default())?;
        fields::string("id", &self.id)?;
        Ok(self.key())
    }

    fn key(self) -> IdentityKey {
        IdentityKey { id_type: self.id_type.unwrap_or_default(), id: self.id }
    }
}

pub(crate) async fn list(State(api): State<Api>, Path(user): Path<i64>) -> Result<Data<Vec<IdentityView>>, Problem> {
    let found = api.store.identities(UserId(user)).await?;
    Ok(Data(found.into_iter().map(IdentityView::from).collect()))
}

pub(crate) async fn attach(
    State(api): State<Api>,
    Path(user): Path<i64>,
    Json(body): Json<KeyBody>,
) -> Result<Response, Problem> {
    let key = body.named()?;
    Ok(match api.store.attach_identity(UserId(user), key, api.now()).await? {
        Attached::New(identity) => Created(IdentityView::from(identity)).into_response(),
        Attached::Known(identity) => Data(IdentityView::from(identity)).into_response(),
    })
}

pub(crate) async fn link(State(api): State<Api>, Json(body): Json<LinkBody>) -> Result<Data<Value>, Problem> {
    let survivor = match body.survivor {
        None | Some(SurvivorBody::Older) => Survivor::Older,
        Some(SurvivorBody::From) => Survivor::From,
        Some(SurvivorBody::To) => Survivor::To,
    };
    let link = Link { from: body.from.named()?, to: body.to.named()?, survivor };
    let linked = api.store.link(link, api.now()).await?;
    Ok(Data(json!({"userId": linked.user_id, "absorbed": linked.absorbed})))
}

pub(crate) async fn resolve(
    State(api): State<Api>,
    Json(body): Json<ResolveBody>,
) -> Result<Data<Vec<Option<Value>>>, Problem> {
    if body.identities.len() > RESOLVE_MAX {
        let message = format!("at most {RESOLVE_MAX} identities in one call; send the rest in another");
        return Err(Problem::invalid(ErrorCode::TooManyIdentities, message));
    }
    let keys = body.identities.into_iter().map(KeyBody::of_event).collect::<Result<Vec<_>, _>>()?;
    let unknown = if body.create { Unknown::Create } else { Unknown::Reject };
    let resolved = resolved(api.store.resolve(&keys, unknown, api.now()).await?);
    let view = |resolved: Resolved| json!({"userId": resolved.user_id, "new": resolved.new});
    Ok(Data(resolved.into_iter().map(|resolved| resolved.map(view)).collect()))
}

/// Returns the owners. The first mention of a new user carries the record that introduces the user
/// to the engine; a second spelling of the same identity does not.
pub(crate) fn resolved(resolution: Resolution) -> Vec<Option<Resolved>> {
    let Resolution { owners, created, .. } = resolution;
    let mut created: HashMap<UserId, User> = created.into_iter().map(|user| (user.id, user)).collect();
    let mut one = |user_id| Resolved { user_id, new: created.remove(&user_id).as_ref().map(OutboxEntry::user_record) };
    owners.into_iter().map(|owner| owner.map(&mut one)).collect()
}

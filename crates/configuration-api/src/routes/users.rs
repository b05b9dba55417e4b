//! `/api/v1/users`, and the members of a segment.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use ports::config_store::{Member, NewUser, User, UserChange};
use ports::records::instant;
use segment_engine::ids::UserId;
use serde::Deserialize;
use serde_json::{Value, json};
use uss_http::extract::{Json, Path, Query};
use uss_http::{PageRequest, Problem};

use crate::api::Api;
use crate::history::positions::Positions;
use crate::wire::fields::{self, nullable};
use crate::wire::lists::{Format, formatted_list, json_list};
use crate::wire::response::{Created, Data};
use crate::wire::views::UserView;

/// The position in the transitions that the members include: a consumer that streams from there
/// misses nothing.
const POSITION: HeaderName = HeaderName::from_static("uss-position");

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserBody {
    #[serde(default, deserialize_with = "nullable")]
    client_ref_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    name: Option<Option<String>>,
    #[serde(default, deserialize_with = "nullable")]
    email: Option<Option<String>>,
}

impl UserBody {
    fn change(self) -> Result<UserChange, Problem> {
        let UserBody { client_ref_id, name, email } = self;
        for (field, value) in [("clientRefId", &client_ref_id), ("name", &name), ("email", &email)] {
            fields::optional_name(field, value.as_ref().and_then(Option::as_deref))?;
        }
        Ok(UserChange { client_ref_id, name, email })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListQuery {
    limit: Option<usize>,
    cursor: Option<String>,
    #[serde(default)]
    fresh: bool,
    client_ref_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct FreshQuery {
    #[serde(default)]
    pub(crate) fresh: bool,
}

pub(crate) async fn list(State(api): State<Api>, Query(query): Query<ListQuery>) -> Result<Response, Problem> {
    api.wait_until_applied(query.fresh).await?;
    if let Some(client_id) = query.client_ref_id {
        let found = api.store.user_by_client_id(&client_id).await?;
        return Ok(Data(found.map(UserView::from)).into_response());
    }
    let store = api.store;
    let fetch = move |rows| {
        let store = store.clone();
        async move { store.users(rows).await }
    };
    let request = PageRequest { limit: query.limit, cursor: query.cursor };
    json_list::<User, UserView, _, _>(&request, fetch, |user| user.id.0).await
}

pub(crate) async fn create(State(api): State<Api>, Json(body): Json<UserBody>) -> Result<Created<UserView>, Problem> {
    let UserChange { client_ref_id, name, email } = body.change()?;
    let new = NewUser { client_ref_id: client_ref_id.flatten(), name: name.flatten(), email: email.flatten() };
    Ok(Created(api.store.create_user(new, api.now()).await?.into()))
}

pub(crate) async fn get(
    State(api): State<Api>,
    Path(id): Path<i64>,
    Query(query): Query<FreshQuery>,
) -> Result<Data<UserView>, Problem> {
    api.wait_until_applied(query.fresh).await?;
    Ok(Data(api.user(id).await?.into()))
}

pub(crate) async fn update(
    State(api): State<Api>,
    Path(id): Path<i64>,
    Json(body): Json<UserBody>,
) -> Result<Data<UserView>, Problem> {
    let updated = api.store.update_user(UserId(id), body.change()?, api.now()).await?;
    Ok(Data(updated.user.into()))
}

pub(crate) async fn delete(State(api): State<Api>, Path(id): Path<i64>) -> Result<Json<Value>, Problem> {
    api.store.delete_user(UserId(id)).await?;
    Ok(Json(json!({"data": true, "erasure": api.erasure.from(api.now())})))
}

pub(crate) async fn by_client_id(
    State(api): State<Api>,
    Path(client_id): Path<String>,
    Query(query): Query<FreshQuery>,
) -> Result<Data<Option<UserView>>, Problem> {
    api.wait_until_applied(query.fresh).await?;
    Ok(Data(api.store.user_by_client_id(&client_id).await?.map(UserView::from)))
}

pub(crate) async fn members(
    State(api): State<Api>,
    Path(tag): Path<String>,
    Query(query): Query<ListQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.wait_until_applied(query.fresh).await?;
    let segment = api.segment_by_tag(&tag).await?.id;
    // Read before the members, so that a consumer misses no transition; it may get some that the
    // members include.
    let stored = api.store.membership_positions().await?;
    let position = Positions::of_all(api.log.partitions(), stored);
    let store = api.store;
    let fetch = move |rows| {
        let store = store.clone();
        async move { store.members(segment, rows).await }
    };
    let request = PageRequest { limit: query.limit, cursor: query.cursor };
    let key = |member: &Member| member.user.id.0;
    let mut response = if wants_csv(&headers) {
        formatted_list(&request, fetch, key, CSV).await?
    } else {
        json_list::<Member, UserView, _, _>(&request, fetch, key).await?
    };
    let position = HeaderValue::from_str(&position.to_string()).map_err(Problem::internal)?;
    response.headers_mut().insert(POSITION, position);
    Ok(response)
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        member.user.into()
    }
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|media| media.split(';').next().is_some_and(|media| media.trim() == "text/csv"))
}

/// Puts an apostrophe before a string that a spreadsheet would execute as a formula. Some skip
/// blanks before it.
fn cell(text: Option<String>) -> String {
    let text = text.unwrap_or_default();
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@']) || text.starts_with(['\t', '\r', '\n']);
    if is_formula { format!("'{text}") } else { text }
}

const CSV: Format<Member> = Format {
    content_type: "text/csv; charset=utf-8",
    start: b"id,clientRefId,name,email,enteredAt\n",
    between: b"",
    end: b"",
    write: |member, body| {
        let Member { user, membership } = member;
        let (id, since) = (user.id.to_string(), instant::format(membership.created_at));
        let client_id = cell(user.client_id().map(str::to_owned));
        let row = [id, client_id, cell(user.name), cell(user.email), since];
        csv::Writer::from_writer(body).write_record(&row).expect("a Vec takes every write");
    },
};

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn no_cell_begins_like_a_formula() {
        for blanks in ["", " ", "\t", "\r", "\n", "\u{a0}", "\u{3000}", " \u{a0}\t\r\n  "] {
            for text in ["=1", "+1", "-1", "@a", "="] {
                let text = format!("{blanks}{text}");
                assert_eq!(cell(Some(text.clone())), format!("'{text}"));
            }
        }
        // Control characters are refused in new strings, but an older store may have them.
        assert_eq!(cell(Some("\ta".to_owned())), "'\ta");
        for text in ["", " ", "1=1", " 1=1", "\u{a0}a@b.c", "'=1", " ' =1", "a@b.c", "é"] {
            assert_eq!(cell(Some(text.to_owned())), text);
        }
        assert_eq!(cell(None), "");
    }
}

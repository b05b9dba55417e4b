//! Lists: one page with `limit`, all rows without it. Rows are read from the store a chunk at a
//! time and streamed.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use ports::config_store::{ConfigStoreError, Page as Rows};
use serde::Serialize;
use serde_json::json;
use uss_http::extract::Json;
use uss_http::{PageRequest, Problem};

/// Rows read from the store at a time while a whole list is streamed.
const CHUNK_ROWS: usize = 1_000;

/// `nextCursor` for formats that have no place for it.
pub(crate) const NEXT_CURSOR: HeaderName = HeaderName::from_static("uss-next-cursor");

/// How rows become a body.
pub(crate) struct Format<T> {
    pub content_type: &'static str,
    pub start: &'static [u8],
    pub between: &'static [u8],
    pub end: &'static [u8],
    pub write: fn(T, &mut Vec<u8>),
}

/// `{"data": […]}`, with each row as a `V`.
pub(crate) fn json_format<T: Into<V>, V: Serialize>() -> Format<T> {
    Format {
        content_type: "application/json",
        start: b"{\"data\":[",
        between: b",",
        end: b"]}",
        write: |row, body| {
            let view: V = row.into();
            serde_json::to_writer(body, &view).expect("views have string keys, and a Vec takes every write");
        },
    }
}

/// Returns a list as JSON. `fetch` reads the rows after a key; `key` returns a row's key.
pub(crate) async fn json_list<T, V, Fetch, Fetching>(
    request: &PageRequest,
    fetch: Fetch,
    key: fn(&T) -> i64,
) -> Result<Response, Problem>
where
    T: Into<V> + Send + 'static,
    V: Serialize + 'static,
    Fetch: Fn(Rows) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Vec<T>, ConfigStoreError>> + Send,
{
    list(request, fetch, key, json_format::<T, V>(), |_, rows, next_cursor| {
        let views: Vec<V> = rows.into_iter().map(Into::into).collect();
        Json(json!({"data": views, "nextCursor": next_cursor})).into_response()
    })
    .await
}

/// Like [`json_list`], in another format; `nextCursor` is a header.
pub(crate) async fn formatted_list<T, Fetch, Fetching>(
    request: &PageRequest,
    fetch: Fetch,
    key: fn(&T) -> i64,
    format: Format<T>,
) -> Result<Response, Problem>
where
    T: Send + 'static,
    Fetch: Fn(Rows) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Vec<T>, ConfigStoreError>> + Send,
{
    list(request, fetch, key, format, |format, rows, next_cursor| {
        let mut body = format.start.to_vec();
        write_rows(format, rows, false, &mut body);
        body.extend_from_slice(format.end);
        let mut response = ([(header::CONTENT_TYPE, format.content_type)], body).into_response();
        if let Some(cursor) = next_cursor.and_then(|cursor| HeaderValue::from_str(&cursor).ok()) {
            response.headers_mut().insert(NEXT_CURSOR, cursor);
        }
        response
    })
    .await
}

/// Returns one page as `page_response` writes it, or streams all rows if the request has no limit.
async fn list<T, Fetch, Fetching>(
    request: &PageRequest,
    fetch: Fetch,
    key: fn(&T) -> i64,
    format: Format<T>,
    page_response: impl FnOnce(&Format<T>, Vec<T>, Option<String>) -> Response,
) -> Result<Response, Problem>
where
    T: Send + 'static,
    Fetch: Fn(Rows) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Vec<T>, ConfigStoreError>> + Send,
{
    let page = request.page::<i64>()?;
    let after = page.after.unwrap_or(0);
    let Some(limit) = page.limit else {
        return stream_all(after, fetch, key, format).await;
    };
    let mut rows = fetch(Rows { after, limit: limit + 1 }).await?;
    let next_cursor = page.next_cursor(&mut rows, key);
    Ok(page_response(&format, rows, next_cursor))
}

fn write_rows<T>(format: &Format<T>, rows: Vec<T>, mut continued: bool, body: &mut Vec<u8>) {
    for row in rows {
        if continued {
            body.extend_from_slice(format.between);
        }
        (format.write)(row, body);
        continued = true;
    }
}

/// The progress of a stream.
struct Cursor<T, Fetch> {
    fetch: Fetch,
    format: Format<T>,
    key: fn(&T) -> i64,
    /// Read, but not written.
    rows: Vec<T>,
    after: i64,
    started: bool,
}

/// Streams all rows. The first chunk is read before the response begins, so that a store that is
/// down is still a 503.
async fn stream_all<T, Fetch, Fetching>(
    after: i64,
    fetch: Fetch,
    key: fn(&T) -> i64,
    format: Format<T>,
) -> Result<Response, Problem>
where
    T: Send + 'static,
    Fetch: Fn(Rows) -> Fetching + Send + 'static,
    Fetching: Future<Output = Result<Vec<T>, ConfigStoreError>> + Send,
{
    let rows = fetch(Rows { after, limit: CHUNK_ROWS }).await?;
    let content_type = [(header::CONTENT_TYPE, format.content_type)];
    let cursor = Cursor { fetch, format, key, rows, after, started: false };
    if cursor.rows.len() < CHUNK_ROWS {
        let (chunk, _) = cursor.next().await?;
        return Ok((content_type, chunk).into_response());
    }
    let chunks = stream::try_unfold(Some(cursor), |cursor| async {
        let Some(cursor) = cursor else { return Ok(None) };
        // The response has begun. It can only be cut off, so that no client takes it for the whole
        // list.
        cursor.next().await.map(Some).inspect_err(|error| tracing::error!(%error, "a list was cut off"))
    });
    Ok((content_type, Body::from_stream(chunks)).into_response())
}

impl<T, Fetch, Fetching> Cursor<T, Fetch>
where
    Fetch: Fn(Rows) -> Fetching,
    Fetching: Future<Output = Result<Vec<T>, ConfigStoreError>>,
{
    /// Returns the next chunk of the body, and the cursor after it: `None` at the end.
    async fn next(mut self) -> Result<(Bytes, Option<Self>), ConfigStoreError> {
        let mut chunk = if self.started { Vec::new() } else { self.format.start.to_vec() };
        let full = self.rows.len() == CHUNK_ROWS;
        self.after = self.rows.last().map_or(self.after, self.key);
        write_rows(&self.format, std::mem::take(&mut self.rows), self.started, &mut chunk);
        self.started = true;
        if full {
            self.rows = (self.fetch)(Rows { after: self.after, limit: CHUNK_ROWS }).await?;
            return Ok((chunk.into(), Some(self)));
        }
        chunk.extend_from_slice(self.format.end);
        Ok((chunk.into(), None))
    }
}

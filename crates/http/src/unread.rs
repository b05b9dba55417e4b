//! Handles responses that are sent before the request was read to its end, because its size, key or
//! path was refused.
//!
//! The rest of such a body blocks the next request of the connection. A short rest is read and
//! dropped. If there is more, the response says `Connection: close`, so that no client sends its
//! next request on a closing connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::time::timeout;

/// How much of a body is read and dropped to keep its connection, and for how long.
const DRAIN_BYTES_MAX: u64 = 256 << 10;
const DRAIN_TIME_MAX: Duration = Duration::from_millis(500);
/// The same for a connection that is closed: a client that is still sending at that time could miss
/// the response.
const LINGER_BYTES_MAX: u64 = 64 << 20;
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// A body that hands back its unread rest when it is dropped.
struct Watched {
    body: Body,
    left: Arc<Mutex<Option<Body>>>,
}

/// Disposes of the unread rest of a body after the response. It must be outside of all other
/// layers, because each of them may refuse a request.
pub fn dispose_unread(router: Router) -> Router {
    router.layer(from_fn(dispose))
}

async fn dispose(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // A refused client that sent `Expect` sends no body. Reading would ask for it.
    let asks_first = request.headers().contains_key(header::EXPECT);
    let left = Arc::new(Mutex::new(None));
    let request = request.map(|body| Body::new(Watched { body, left: Arc::clone(&left) }));
    let mut response = next.run(request).await;
    let Some(mut body) = left.lock().unwrap_or_else(PoisonError::into_inner).take() else { return response };
    let is_little = body.size_hint().lower() <= DRAIN_BYTES_MAX;
    let is_slow = response.status() == StatusCode::REQUEST_TIMEOUT;
    if !asks_first && is_little && !is_slow && drain(&mut body, DRAIN_BYTES_MAX, DRAIN_TIME_MAX).await {
        return response;
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    if !asks_first && !is_slow {
        tokio::spawn(async move { drain(&mut body, LINGER_BYTES_MAX, LINGER_TIME_MAX).await });
    }
    response
}

/// Reads a body within these limits. Returns whether it was read to its end.
async fn drain(body: &mut Body, bytes_max: u64, time_max: Duration) -> bool {
    let to_end = async {
        let mut bytes = 0;
        while let Some(frame) = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > bytes_max {
                return false;
            }
        }
        true
    };
    timeout(time_max, to_end).await.unwrap_or(false)
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.body = Body::empty();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

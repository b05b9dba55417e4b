//! Knows how long a request is under way: from its head until the last of the response has been taken.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};

use super::admission::Ticket;

/// A request under way. Its connection is idle again when this is dropped, also if the handler never responds.
pub(super) struct UnderWay(Arc<Ticket>);

impl UnderWay {
    pub(super) fn new(ticket: Arc<Ticket>) -> Self {
        ticket.busy();
        Self(ticket)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.idle();
    }
}

/// The body of a response, with which the request ends. hyper drops it when it has taken all of it.
pub(super) struct Until {
    body: Body,
    _under_way: UnderWay,
}

impl Until {
    pub(super) fn sent(body: Body, under_way: UnderWay) -> Self {
        Self { body, _under_way: under_way }
    }
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

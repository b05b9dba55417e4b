//! A stream that fails if the client sends no request, or does not read.

use std::future::Future;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::Times;

/// What the stream of a connection needs to know about it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    has_requested: AtomicBool,
    is_stopping: AtomicBool,
}

impl Activity {
    /// Notes that a request's head has been read.
    pub(super) fn request(&self) {
        self.has_requested.store(true, Ordering::Relaxed);
    }

    /// Notes that the server is stopping.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

/// The stream of a connection.
pub(super) struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
    times: Times,
    /// The deadline of the first request; `None` once there was one.
    first_head: Option<Pin<Box<Sleep>>>,
    /// The client's deadline to read, set while it reads nothing, and whether it is the shorter
    /// deadline of a stop.
    stalled: Option<(Pin<Box<Sleep>>, bool)>,
}

impl<S> Watched<S> {
    /// Starts to wait for the first request.
    pub(super) fn new(stream: S, activity: Arc<Activity>, times: Times) -> Self {
        Self { stream, activity, times, first_head: Some(Box::pin(sleep(times.first_head))), stalled: None }
    }

    /// Fails a write for which the client makes no room in time. Every byte that the client reads
    /// restarts the time.
    fn unless_stalled<T>(&mut self, context: &mut Context<'_>, wrote: Poll<Result<T>>) -> Poll<Result<T>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let is_stopping = self.activity.is_stopping.load(Ordering::Relaxed);
        let most = if is_stopping { self.times.stalled_at_stop } else { self.times.stalled };
        let (until, of_stop) = self.stalled.get_or_insert_with(|| (Box::pin(sleep(most)), is_stopping));
        if is_stopping && !*of_stop {
            until.as_mut().reset(Instant::now() + most);
            *of_stop = true;
        }
        ready!(until.as_mut().poll(context));
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if this.activity.has_requested.load(Ordering::Relaxed) {
            this.first_head = None;
        }
        let is_stopping = this.activity.is_stopping.load(Ordering::Relaxed);
        if let Some(until) = &mut this.first_head
            && (is_stopping || until.as_mut().poll(context).is_ready())
        {
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client sends no request")));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write(context, buffer);
        this.unless_stalled(context, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let this = self.get_mut();
        let wrote = Pin::new(&mut this.stream).poll_write_vectored(context, buffers);
        this.unless_stalled(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

//! `Content-Encoding`: unpacks bodies a piece at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use ports::ErrorCode;
use tokio_util::io::{ReaderStream, StreamReader};
use uss_http::{Kind, Problem};

use crate::limits::Limits;
use crate::pipeline::Ingestion;

/// How much is unpacked before room for more is reserved.
const PIECE_BYTES: usize = 64 << 10;

/// Why a packed body is not read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadGzip {
    /// It is not what its `Content-Encoding` says.
    #[error("the body is not whole gzip: {0}; send it packed again, or without Content-Encoding")]
    Damaged(io::Error),
    /// It unpacks to far more than events do.
    #[error("the body unpacks to more than {0} times its size, which events do not; send it without Content-Encoding")]
    Ratio(u64),
}

impl BadGzip {
    /// Returns the error for the client.
    pub(crate) fn problem(&self) -> Problem {
        let code = match self {
            BadGzip::Damaged(_) => ErrorCode::InvalidGzip,
            BadGzip::Ratio(_) => ErrorCode::CompressionRatioTooHigh,
        };
        Problem::invalid(code, self.to_string())
    }
}

/// Unpacks the body of a request before its handler sees it.
pub(crate) async fn unpack(State(ingestion): State<Arc<Ingestion>>, request: Request, next: Next) -> Response {
    match is_packed(request.headers()) {
        Ok(false) => next.run(request).await,
        Ok(true) => {
            let (mut parts, body) = request.into_parts();
            parts.headers.remove(header::CONTENT_ENCODING);
            parts.headers.remove(header::CONTENT_LENGTH);
            next.run(Request::from_parts(parts, gunzip(body, &ingestion.limits))).await
        }
        Err(problem) => problem.into_response(),
    }
}

/// Returns whether the body is gzip. Codings are listed in one header or several, in any case (RFC 9110, 8.4 and 5.3).
///
/// # Errors
/// 415 for any other coding.
pub(crate) fn is_packed(headers: &HeaderMap) -> Result<bool, Problem> {
    let mut packed = false;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        for coding in String::from_utf8_lossy(value.as_bytes()).split(',').map(str::trim) {
            match coding.to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" if !packed => packed = true,
                _ => return Err(unsupported(coding)),
            }
        }
    }
    Ok(packed)
}

fn unsupported(coding: &str) -> Problem {
    let message = format!(
        "Content-Encoding `{}` is not read here; what is read is gzip (also called x-gzip), once, and identity: the body as it is",
        coding.escape_debug()
    );
    Problem::new(Kind::UnsupportedMedia, ErrorCode::UnsupportedEncoding, message)
}

/// Unpacks all members of the gzip stream, one after the other (RFC 1952, 2.2). Fails when it has unpacked far more bytes
/// than were sent: each event costs work, room on the disk and a place in the answer, and a client should not get a
/// thousand times what it sends.
pub(crate) fn gunzip(body: Body, limits: &Limits) -> Body {
    let (ratio_max, free) = (limits.unpacked_ratio_max, limits.unpacked_free_bytes);
    let sent = Arc::new(AtomicU64::new(0));
    let packed = body.into_data_stream().map({
        let sent = Arc::clone(&sent);
        move |piece| {
            let piece = piece.map_err(io::Error::other)?;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok::<_, io::Error>(piece)
        }
    });
    let mut decoder = GzipDecoder::new(StreamReader::new(packed));
    decoder.multiple_members(true);
    let mut unpacked = 0;
    Body::from_stream(ReaderStream::with_capacity(decoder, PIECE_BYTES).map(move |piece| {
        let piece = piece.map_err(classified)?;
        unpacked += piece.len() as u64;
        if unpacked > free && unpacked > ratio_max.saturating_mul(sent.load(Ordering::Relaxed)) {
            return Err(BadGzip::Ratio(ratio_max).into());
        }
        Ok::<_, axum::BoxError>(piece)
    }))
}

/// Errors of the packed body itself pass through the decoder; all others are about what the body holds.
fn classified(error: io::Error) -> axum::BoxError {
    match error.get_ref().is_some_and(|inner| inner.is::<axum::Error>()) {
        true => error.into(),
        false => BadGzip::Damaged(error).into(),
    }
}

/// Returns what is wrong with the packed body, if that is why a body could not be read.
pub(crate) fn bad_gzip<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a BadGzip> {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(bad) = this.downcast_ref() {
            return Some(bad);
        }
        error = this.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_read_in_every_spelling_of_the_standard() {
        let cases: [(&[&str], Option<bool>); 15] = [
            (&[], Some(false)),
            (&["identity"], Some(false)),
            (&["Identity"], Some(false)),
            (&[""], Some(false)),
            (&["gzip"], Some(true)),
            (&["GZip"], Some(true)),
            (&["x-gzip"], Some(true)),
            (&["identity, gzip"], Some(true)),
            (&["gzip ,identity"], Some(true)),
            (&["identity", "X-GZIP"], Some(true)),
            (&[",gzip,"], Some(true)),
            (&["gzip, gzip"], None),
            (&["gzip", "x-gzip"], None),
            (&["br"], None),
            (&["gzip, deflate"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            match (is_packed(&headers), expected) {
                (Ok(packed), Some(expected)) => assert_eq!(packed, expected, "{values:?}"),
                (Err(problem), None) => {
                    assert_eq!(problem.code, ErrorCode::UnsupportedEncoding);
                    assert!(problem.message.contains("what is read is gzip"), "{}", problem.message);
                }
                (found, _) => panic!("{values:?}: {found:?}"),
            }
        }
    }
}

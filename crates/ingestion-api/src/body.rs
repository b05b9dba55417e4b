//! Bodies of requests, read within bounds of size and time.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use ports::ErrorCode;
use tokio::time::{Instant, timeout};
use uss_http::pace::too_slow;
use uss_http::{Kind, Problem};

use crate::capacity::Reservation;
use crate::limits::Limits;
use crate::unpack::{bad_gzip, gunzip};

/// Returns the next piece of a body; `None` at its end.
///
/// # Errors
/// The body broke off, no piece came within `wait`, or what is packed is damaged or unpacks to too much.
pub(crate) async fn next_piece(body: &mut BodyDataStream, wait: Duration) -> Result<Option<Bytes>, Problem> {
    match timeout(wait, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(unreadable(&error)),
        Err(_) => Err(too_slow()),
    }
}

fn unreadable(error: &axum::Error) -> Problem {
    match bad_gzip(error) {
        Some(bad) => bad.problem(),
        None => Problem::invalid(
            ErrorCode::BodyCutOff,
            format!("the body could not be read to its end: {error}; send the whole body again"),
        ),
    }
}

/// Reads a whole body and unpacks it. It must keep coming, so that no slow body keeps its room for long.
///
/// A packed body is unpacked only when all of it is there. Until then it holds what the client has sent, and only that
/// earns it time: otherwise a few kilobytes would take the room of megabytes for as long as a whole body may take.
///
/// # Errors
/// 408, 413, 429, or as [`next_piece`].
pub(crate) async fn read(
    body: Body,
    is_packed: bool,
    reservation: &mut Reservation,
    limits: &Limits,
) -> Result<Bytes, Problem> {
    let sent = collect(body, 0, reservation, limits).await?;
    if !is_packed {
        return Ok(sent);
    }
    let sent_bytes = sent.len();
    let unpacked = collect(gunzip(sent.into(), limits), sent_bytes, reservation, limits).await?;
    reservation.hold(unpacked.len())?;
    Ok(unpacked)
}

/// Collects the pieces of a body. It reserves room before it keeps a piece, so no body unpacks to more than the bounds.
/// `beside` is what the request holds apart from that.
async fn collect(body: Body, beside: usize, reservation: &mut Reservation, limits: &Limits) -> Result<Bytes, Problem> {
    let started = Instant::now();
    let mut stream = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    loop {
        let length = whole.len() + joined.len();
        let wait = limits.body_pace.time_for(length).saturating_sub(started.elapsed()).min(limits.body_pause_max);
        let Some(piece) = next_piece(&mut stream, wait).await? else { break };
        let length = length + piece.len();
        reservation.hold(beside + length)?;
        if length > limits.body_bytes_max {
            let message = format!(
                "the body has more than {} bytes; send smaller arrays, or lines of JSON (application/x-ndjson) without a limit",
                limits.body_bytes_max
            );
            return Err(Problem::new(Kind::TooLarge, ErrorCode::BodyTooLarge, message));
        }
        if whole.is_empty() && joined.is_empty() {
            whole = piece;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.into() })
}

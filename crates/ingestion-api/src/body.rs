//! Bodies of requests, read within bounds of size and time.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use ports::ErrorCode;
use tokio::time::{Instant, timeout};
use uss_http::{Kind, Problem};

use crate::capacity::Reservation;
use crate::limits::Limits;
use crate::unpack::bad_gzip;

/// Returns the next piece of a body; `None` at its end.
///
/// # Errors
/// The body broke off, no piece came within `wait`, or it is not what `Content-Encoding` says.
pub async fn next_piece(body: &mut BodyDataStream, wait: Duration) -> Result<Option<Bytes>, Problem> {
    match timeout(wait, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(unreadable(&error)),
        Err(_) => Err(too_slow()),
    }
}

fn unreadable(error: &axum::Error) -> Problem {
    match bad_gzip(error) {
        Some(bad) => Problem::invalid(
            ErrorCode::InvalidGzip,
            format!("the body is not whole gzip: {bad}; send it packed again, or without Content-Encoding"),
        ),
        None => Problem::invalid(
            ErrorCode::BodyCutOff,
            format!("the body could not be read to its end: {error}; send the whole body again"),
        ),
    }
}

/// 408: a slow body takes room that others need.
pub fn too_slow() -> Problem {
    let message = "the body comes too slowly; send it whole and at once, or send less";
    Problem::new(Kind::TooSlow, ErrorCode::BodyTooSlow, message)
}

/// Reads a whole body. It reserves room before it keeps bytes, so a packed body cannot unpack to more than the bounds. The
/// body must keep coming, so that no slow body keeps its room for long.
///
/// # Errors
/// 408, 413, 429, or as [`next_piece`].
pub async fn read(body: Body, reservation: &mut Reservation, limits: &Limits) -> Result<Bytes, Problem> {
    let started = Instant::now();
    let mut stream = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    loop {
        let length = whole.len() + joined.len();
        let wait = time_for(length, limits).saturating_sub(started.elapsed()).min(limits.body_pause_max);
        let Some(piece) = next_piece(&mut stream, wait).await? else { break };
        let length = length + piece.len();
        reservation.hold(length)?;
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

/// Returns how long a body may take when `bytes` of it have come.
fn time_for(bytes: usize, limits: &Limits) -> Duration {
    let earned = Duration::from_secs((bytes / limits.body_bytes_per_second_min.max(1)) as u64);
    (limits.body_grace + earned).min(limits.body_time_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_earns_its_time_by_coming() {
        let limits = Limits::default();
        let seconds = |bytes| time_for(bytes, &limits).as_secs();
        assert_eq!((seconds(0), seconds(10 << 10), seconds(16 << 20)), (10, 20, 300));
    }
}

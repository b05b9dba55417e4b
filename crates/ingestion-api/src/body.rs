//! Bodies that are read as a whole, and how they are split into events.

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::StreamExt;
use ports::records::json::{JsonError, Reader};
use tokio::time::timeout;
use uss_http::{Kind, Problem};

use crate::capacity::Reservation;
use crate::limits::Limits;

/// How deep an array's text may nest: far more than an event may, so that one event that is too deep is one bad event.
const ARRAY_DEPTH_MAX: u32 = 500;

/// The next piece of a body; `None` at its end.
///
/// # Errors
/// The body broke off, paused too long, or is not what `Content-Encoding` says.
pub async fn next_piece(body: &mut BodyDataStream, limits: &Limits) -> Result<Option<Bytes>, Problem> {
    match timeout(limits.body_pause_max, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(Some(Err(error))) => Err(cut_off(&format!("the body could not be read to its end: {error}"))),
        Err(_) => Err(cut_off("the body paused for too long")),
    }
}

fn cut_off(what: &str) -> Problem {
    Problem::invalid("BODY_CUT_OFF", format!("{what}; send the whole body again"))
}

/// A whole body. What is received is reserved before it is kept, so a packed body cannot unpack to more than the bounds.
///
/// # Errors
/// 413, 429, or as [`next_piece`].
pub async fn read(body: Body, reservation: &mut Reservation, limits: &Limits) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let mut whole = Bytes::new();
    let mut joined: Vec<u8> = Vec::new();
    while let Some(piece) = next_piece(&mut stream, limits).await? {
        reservation.grow(piece.len())?;
        if whole.len() + joined.len() + piece.len() > limits.body_bytes_max {
            let message = format!(
                "the body has more than {} bytes; send smaller arrays, or lines of JSON (application/x-ndjson) without a limit",
                limits.body_bytes_max
            );
            return Err(Problem::new(Kind::TooLarge, "BODY_TOO_LARGE", message));
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

/// What a JSON body holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Events<'a> {
    /// One event, or something that was meant to be one.
    One(&'a [u8]),
    /// An array's elements.
    Many(Vec<&'a [u8]>),
}

/// Splits a JSON body. A text that starts like an array but is none is one (bad) event: where its events end cannot be told.
///
/// # Errors
/// 400 for an empty body, 413 for too many events.
pub fn split<'a>(body: &'a [u8], limits: &Limits) -> Result<Events<'a>, Problem> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => {
            Err(Problem::invalid("EMPTY_BODY", "the body is empty; send one event, or an array of events, as JSON"))
        }
        Some(b'[') => match elements(body) {
            Some(elements) if elements.len() > limits.array_events_max => {
                let message = format!(
                    "the array has {} events; send at most {}, or lines of JSON (application/x-ndjson) without a limit",
                    elements.len(),
                    limits.array_events_max
                );
                Err(Problem::new(Kind::TooLarge, "TOO_MANY_EVENTS", message))
            }
            Some(elements) => Ok(Events::Many(elements)),
            None => Ok(Events::One(body)),
        },
        Some(_) => Ok(Events::One(body)),
    }
}

fn elements(body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader::with_depth(std::str::from_utf8(body).ok()?, ARRAY_DEPTH_MAX);
    let mut elements = Vec::new();
    let read = reader.array(|reader| {
        elements.push(reader.value()?.raw().as_bytes());
        Ok::<_, JsonError>(())
    });
    read.and_then(|()| reader.end()).ok()?;
    Some(elements)
}

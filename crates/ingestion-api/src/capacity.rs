//! How many bytes of bodies are being worked on: over the bound, requests are turned away before anything is stored.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uss_http::{Kind, Problem};

/// The unit of reservations: small enough for one event, large enough that a semaphore can count 4 TiB of them.
const UNIT_BYTES: usize = 1024;

/// What all requests together may hold.
#[derive(Clone, Debug)]
pub struct Capacity(Arc<Semaphore>);

/// What one request holds; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    capacity: Capacity,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Capacity {
    /// So many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes_max / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// A reservation of nothing yet.
    pub fn reservation(&self) -> Reservation {
        Reservation { capacity: self.clone(), permit: None, bytes: 0 }
    }
}

impl Reservation {
    /// Reserves more, at once or not at all.
    ///
    /// # Errors
    /// 429 if all requests together would hold too much.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.bytes.div_ceil(UNIT_BYTES);
        self.bytes += bytes;
        let wanted = u32::try_from(self.bytes.div_ceil(UNIT_BYTES) - held).unwrap_or(u32::MAX);
        if wanted == 0 {
            return Ok(());
        }
        let more = Arc::clone(&self.capacity.0).try_acquire_many_owned(wanted).map_err(|_| over_capacity())?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

fn over_capacity() -> Problem {
    let message = "too many events are being taken in at once; nothing was stored, send the same request again later";
    Problem::new(Kind::TooMany, "OVER_CAPACITY", message)
}

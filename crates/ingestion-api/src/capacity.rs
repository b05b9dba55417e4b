//! How many bytes requests hold. Over the bound they are refused before anything is stored. What counts is what a request
//! really holds, not what it may come to hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use ports::ErrorCode;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use uss_http::{Kind, Problem};

use crate::limits::Limits;

/// How many bytes all requests together, and those of one client, may hold.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    held: Arc<Mutex<Held>>,
    /// Wakes those who wait for room.
    given_back: Arc<Notify>,
    bytes_max: usize,
    client_bytes_max: usize,
    waiting_max: usize,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// Requests that wait for room.
    waiting: usize,
    /// Only clients that hold something.
    by_client: HashMap<IpAddr, usize>,
}

/// The bytes that one request holds. Dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Reservation {
    capacity: Capacity,
    client: Option<IpAddr>,
    bytes: usize,
}

impl Capacity {
    /// Returns a capacity of which nothing is held.
    pub(crate) fn new(limits: &Limits) -> Self {
        let (bytes_max, client_bytes_max) = (limits.in_flight_bytes_max, limits.client_bytes_max);
        let waiting_max = limits.waiting_for_room_max;
        Self { held: Arc::default(), given_back: Arc::default(), bytes_max, client_bytes_max, waiting_max }
    }

    /// Returns an empty reservation for a client at this address.
    pub(crate) fn reservation(&self, client: Option<IpAddr>) -> Reservation {
        Reservation { capacity: self.clone(), client: client.map(of_one_owner), bytes: 0 }
    }

    /// Returns how much one client may hold while the others hold `of_others`: a fixed fraction of what these leave. With a
    /// fixed number of bytes a few clients could hold all, and everybody else would be refused. This way something is left
    /// for a client that holds nothing yet, and the more clients there are, the less each may add.
    fn client_share(&self, of_others: usize) -> usize {
        let left = self.bytes_max.saturating_sub(of_others) as u128;
        let share = left * self.client_bytes_max as u128 / self.bytes_max.max(1) as u128;
        usize::try_from(share).unwrap_or(usize::MAX)
    }

    /// Whether a request that holds `own` bytes waits in vain: others hold nothing, or too many wait.
    fn is_wait_vain(&self, own: usize) -> bool {
        let held = self.held();
        held.bytes == own || held.waiting > self.waiting_max
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that has one IPv6 address has the whole /64.
fn of_one_owner(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

impl Reservation {
    /// Sets how many bytes the request holds. After an error it holds what it held before.
    ///
    /// # Errors
    /// 429 if all requests together, or those of this client, would hold too much.
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        let capacity = self.capacity.clone();
        let mut held = capacity.held();
        let all = held.bytes - self.bytes + bytes;
        let of_client = self.client.map_or(0, |client| held.by_client.get(&client).copied().unwrap_or(0) - self.bytes);
        if bytes > self.bytes {
            if all > capacity.bytes_max {
                return Err(over_capacity("too many events are being processed"));
            }
            let of_others = held.bytes - self.bytes - of_client;
            if self.client.is_some() && of_client + bytes > capacity.client_share(of_others) {
                return Err(match of_client + bytes > capacity.client_bytes_max {
                    true => over_capacity("too many events from this address are being processed"),
                    false => over_capacity("too many events are being processed"),
                });
            }
        }
        held.bytes = all;
        if let Some(client) = self.client {
            match of_client + bytes {
                0 => held.by_client.remove(&client),
                bytes => held.by_client.insert(client, bytes),
            };
        }
        let gives_back = bytes < self.bytes;
        self.bytes = bytes;
        drop(held);
        if gives_back {
            capacity.given_back.notify_waiters();
        }
        Ok(())
    }

    /// As [`Reservation::hold`], but waits for room that other requests hold.
    ///
    /// # Errors
    /// 429 if there is no room in time, if others hold nothing, or if too many wait already.
    pub(crate) async fn hold_in_time(&mut self, bytes: usize, wait_max: Duration) -> Result<(), Problem> {
        let deadline = Instant::now() + wait_max;
        let capacity = self.capacity.clone();
        let _waiting = Waiting::of(&capacity);
        loop {
            let mut given_back = std::pin::pin!(capacity.given_back.notified());
            // From here on nothing that is given back is missed.
            given_back.as_mut().enable();
            let Err(refused) = self.hold(bytes) else { return Ok(()) };
            if capacity.is_wait_vain(self.bytes) || timeout_at(deadline, given_back).await.is_err() {
                return Err(refused);
            }
        }
    }
}

/// Counts a request that waits for room until it is dropped.
struct Waiting<'a>(&'a Capacity);

impl<'a> Waiting<'a> {
    fn of(capacity: &'a Capacity) -> Self {
        capacity.held().waiting += 1;
        Self(capacity)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.held().waiting -= 1;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.hold(0).expect("holding nothing is always possible");
    }
}

fn over_capacity(what: &str) -> Problem {
    let message = format!("{what}; nothing was stored, send the same request again later");
    Problem::new(Kind::TooMany, ErrorCode::OverCapacity, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity() -> Capacity {
        Capacity::new(&Limits { in_flight_bytes_max: 100, client_bytes_max: 60, ..Limits::default() })
    }

    #[test]
    fn no_client_holds_more_than_its_share_and_all_together_no_more_than_the_bound() {
        let capacity = capacity();
        let [mut one, mut same] = [(); 2].map(|()| capacity.reservation(Some([192, 0, 2, 1].into())));
        let mut other = capacity.reservation(Some([192, 0, 2, 2].into()));
        let mut third = capacity.reservation(None);
        one.hold(40).unwrap();
        same.hold(20).unwrap();
        assert!(same.hold(21).unwrap_err().message.contains("this address"));
        assert!(other.hold(25).unwrap_err().message.starts_with("too many events are"), "60 % of the 40 that are left");
        other.hold(24).unwrap();
        assert!(same.hold(21).is_err(), "as before");
        third.hold(16).unwrap();
        assert_eq!(third.hold(17).unwrap_err().code, ErrorCode::OverCapacity);
        one.hold(10).unwrap();
        third.hold(46).unwrap();
        assert!(third.hold(47).is_err());
        drop((one, same, other, third));
        let held = capacity.held();
        assert_eq!((held.bytes, held.by_client.len()), (0, 0), "all is given back");
    }

    #[test]
    fn clients_that_take_all_they_may_leave_room_for_others() {
        let capacity = Capacity::new(&Limits::default());
        let (all, share) = (Limits::default().in_flight_bytes_max, Limits::default().client_bytes_max);
        let mut held = Vec::new();
        // How many clients take as much as they may, one after the other, and what the next may hold, in KiB.
        for (clients, left) in [(0, 64 << 10), (1, 48 << 10), (4, 20_736), (8, 6_561), (16, 657)] {
            while held.len() < clients {
                let mut greedy = capacity.reservation(Some([192, 0, 2, held.len() as u8].into()));
                let most = (0..=share).rev().step_by(1 << 10).find(|bytes| greedy.hold(*bytes).is_ok());
                assert!(most.is_some_and(|most| most > 0));
                held.push(greedy);
            }
            let mut newcomer = capacity.reservation(Some([198, 51, 100, 1].into()));
            newcomer.hold(left << 10).unwrap();
            assert!(newcomer.hold((left + 2) << 10).is_err(), "{clients}");
        }
        assert!(capacity.held().bytes < all);
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        let of = |address: &str| of_one_owner(address.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}

//! Admits connections: a limited number for each port and each address. On a full port the connection that has been idle
//! for longest is closed for a new one.
//!
//! Otherwise a few clients that send a request now and then could keep a port to themselves. A metrics port has few
//! connections and asks for no key, and an orchestrator restarts a process whose health it cannot check.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use super::ConnectionLimits;
use crate::problem::{Kind, Problem, RETRY_AFTER_SECONDS};
use crate::serve::Shape;

/// How many refused clients get time to read the response (the others are cut off), and how many connections may be closing
/// for new ones, both together.
const LINGERING_MAX: usize = 64;
/// How long a refused client has to read the response.
const LINGER: Duration = Duration::from_secs(1);

/// Counts the connections of a port.
pub(super) struct Admission {
    port: &'static str,
    limits: ConnectionLimits,
    open: Mutex<Open>,
    lingering: Arc<Semaphore>,
}

#[derive(Default)]
struct Open {
    /// By number. A connection that was closed for a new one is no longer here.
    connections: HashMap<u64, Connection>,
    /// The connections of each address that is not loopback.
    by_address: HashMap<IpAddr, usize>,
    /// The numbers of the connections without a request under way, in the order in which they became idle.
    idle: BTreeMap<u64, u64>,
    /// Counts connections and their changes to idle.
    last: u64,
}

struct Connection {
    address: IpAddr,
    /// Its place in the order of idle connections.
    idle: Option<u64>,
    close: oneshot::Sender<OwnedSemaphorePermit>,
}

/// Counts a connection until it is dropped.
pub(super) struct Ticket {
    admission: Arc<Admission>,
    number: u64,
}

/// Resolves when the connection must close for a new one. The permit bounds how many are closing.
pub(super) type Closing = oneshot::Receiver<OwnedSemaphorePermit>;

/// A refused connection.
pub(super) struct Refusal {
    problem: Problem,
    /// `None` if too many refused clients are already being waited for.
    lingers: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Starts without connections.
    pub(super) fn new(port: &'static str, limits: ConnectionLimits) -> Self {
        gauge!("uss_connections", "port" => port).set(0.0);
        Self { port, limits, open: Mutex::default(), lingering: Arc::new(Semaphore::new(LINGERING_MAX)) }
    }

    /// Counts a connection, or refuses it. Closes an idle one if the port is full.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<(Ticket, Closing), Refusal> {
        let address = counted_as(peer);
        let mut open = self.open();
        if open.by_address.get(&address).is_some_and(|of_address| *of_address >= self.limits.per_address_max) {
            let why = "your address has reached its limit of connections (USS_CONNECTIONS_PER_ADDRESS_MAX)";
            return Err(self.refuse("address", why));
        }
        if open.connections.len() >= self.limits.connections_max && !self.close_idle(&mut open) {
            return Err(self.refuse("port", "this port has reached its limit of connections (USS_CONNECTIONS_MAX)"));
        }
        let (close, closing) = oneshot::channel();
        let number = open.add(address, close);
        drop(open);
        gauge!("uss_connections", "port" => self.port).increment(1.0);
        Ok((Ticket { admission: self.clone(), number }, closing))
    }

    /// Closes the connection that has been idle for longest. Returns whether there was one.
    fn close_idle(&self, open: &mut Open) -> bool {
        if open.idle.is_empty() {
            return false;
        }
        let Ok(permit) = self.lingering.clone().try_acquire_owned() else { return false };
        let Some((_, number)) = open.idle.pop_first() else { return false };
        if let Some(connection) = open.remove(number) {
            counter!("uss_connections_closed_idle_total", "port" => self.port).increment(1);
            // A connection that has just ended by itself does not listen any more.
            drop(connection.close.send(permit));
        }
        true
    }

    fn refuse(&self, reason: &'static str, why: &str) -> Refusal {
        counter!("uss_connections_refused_total", "port" => self.port, "reason" => reason).increment(1);
        let message = format!("{why}; close those that you do not need, or try again later");
        let problem = Problem::new(Kind::Unavailable, ports::ErrorCode::TooManyConnections, message);
        Refusal { problem, lingers: self.lingering.clone().try_acquire_owned().ok() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Adds a connection, which is idle until its first request. Returns its number.
    fn add(&mut self, address: IpAddr, close: oneshot::Sender<OwnedSemaphorePermit>) -> u64 {
        if !address.is_loopback() {
            *self.by_address.entry(address).or_default() += 1;
        }
        self.last += 1;
        let number = self.last;
        self.connections.insert(number, Connection { address, idle: None, close });
        self.idle(number);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        self.busy(number);
        let connection = self.connections.remove(&number)?;
        if let Some(of_address) = self.by_address.get_mut(&connection.address) {
            *of_address -= 1;
            if *of_address == 0 {
                self.by_address.remove(&connection.address);
            }
        }
        Some(connection)
    }

    fn busy(&mut self, number: u64) {
        if let Some(place) = self.connections.get_mut(&number).and_then(|connection| connection.idle.take()) {
            self.idle.remove(&place);
        }
    }

    fn idle(&mut self, number: u64) {
        self.busy(number);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        self.last += 1;
        connection.idle = Some(self.last);
        self.idle.insert(self.last, number);
    }
}

impl Ticket {
    /// Notes that a request is under way: the connection is not closed for a new one.
    pub(super) fn busy(&self) {
        self.admission.open().busy(self.number);
    }

    /// Notes that the request is over.
    pub(super) fn idle(&self) {
        self.admission.open().idle(self.number);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.open().remove(self.number);
        gauge!("uss_connections", "port" => self.admission.port).decrement(1.0);
    }
}

impl Refusal {
    /// Starts to send the response. The returned future waits until the client has it: closing a
    /// connection with unread data may lose what was sent.
    pub(super) fn respond(
        self,
        mut stream: TcpStream,
        shape: Shape,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let body = shape.body(&self.problem).to_string();
        let response = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: {RETRY_AFTER_SECONDS}\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let permit = self.lingers?;
        Some(async move {
            let reading = async {
                stream.write_all(response.as_bytes()).await?;
                stream.shutdown().await?;
                let mut unread = [0; 1024];
                while stream.read(&mut unread).await? > 0 {}
                Ok::<_, std::io::Error>(())
            };
            // The connection is refused either way.
            let _over = timeout(LINGER, reading).await;
            drop(permit);
        })
    }
}

/// Returns an IPv4 address itself, and the network of an IPv6 address, because a host usually has a
/// whole /64.
fn counted_as(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_by_port_and_by_address() {
        let limits = ConnectionLimits { connections_max: 5, per_address_max: 2 };
        let admission = Arc::new(Admission::new("test", limits));
        let mut held = Vec::new();
        // An address, and whether one more connection of it is admitted.
        for (peer, taken) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", true),
            ("2001:db8::2", true),
            ("2001:db8::3", false),
            ("2001:db8:0:1::1", true),
            ("192.0.2.2", false),
            ("127.0.0.1", false),
        ] {
            let admitted = admission.admit(address(peer));
            assert_eq!(admitted.is_ok(), taken, "{peer}");
            held.extend(admitted.ok().inspect(|(ticket, _)| ticket.busy()));
        }
        held.clear();
        {
            let open = admission.open();
            let left = (open.connections.len(), open.by_address.len(), open.idle.len());
            assert_eq!(left, (0, 0, 0), "closed connections leave nothing behind");
        }
        for _ in 0..5 {
            let admitted = admission.admit(address("127.0.0.1")).ok().expect("loopback has the port's limit only");
            admitted.0.busy();
            held.push(admitted);
        }
        assert!(admission.admit(address("::1")).is_err());
    }

    #[test]
    fn the_connection_that_has_been_idle_for_longest_makes_room() {
        let admission = Arc::new(Admission::new("test", ConnectionLimits { connections_max: 3, per_address_max: 2 }));
        let admit = |peer: &str| admission.admit(address(peer));
        let [(first, mut close_first), (second, mut close_second), (third, mut close_third)] =
            ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|peer| admit(peer).ok().unwrap());
        // The first has been idle for longest, but then it has a request.
        first.busy();
        assert!(admit("192.0.2.1").is_err(), "no room is made for an address that has reached its own limit");
        let (fourth, mut close_fourth) = admit("192.0.2.3").ok().unwrap();
        assert!(close_second.try_recv().is_ok() && close_first.try_recv().is_err() && close_third.try_recv().is_err());
        first.idle();
        let (fifth, _close_fifth) = admit("192.0.2.1").ok().expect("the place of the second is free for its address");
        assert!(close_third.try_recv().is_ok() && close_first.try_recv().is_err());
        fourth.busy();
        fifth.busy();
        assert!(admit("192.0.2.4").is_ok(), "the first is idle");
        assert!(close_first.try_recv().is_ok() && close_fourth.try_recv().is_err());
        drop((first, second, third));
        assert_eq!(admission.open().connections.len(), 2, "closed ones are not counted twice");
    }

    #[test]
    fn closing_connections_have_a_limit() {
        let admission = Arc::new(Admission::new("test", ConnectionLimits { connections_max: 1, per_address_max: 1 }));
        // None of them has closed yet.
        let closing: Vec<_> = (0..LINGERING_MAX + 1).map(|_| admission.admit(address("::1")).ok().unwrap()).collect();
        assert!(admission.admit(address("::1")).is_err());
        drop(closing);
        assert!(admission.admit(address("::1")).is_ok());
    }

    #[test]
    fn only_some_refused_clients_are_waited_for() {
        let admission = Arc::new(Admission::new("test", ConnectionLimits { connections_max: 0, per_address_max: 0 }));
        let address = "192.0.2.1".parse().unwrap();
        let refusals: Vec<Refusal> = (0..LINGERING_MAX + 1).filter_map(|_| admission.admit(address).err()).collect();
        let lingering = refusals.iter().filter(|refusal| refusal.lingers.is_some()).count();
        assert_eq!((refusals.len(), lingering), (LINGERING_MAX + 1, LINGERING_MAX));
    }
}

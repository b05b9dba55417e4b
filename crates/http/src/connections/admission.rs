//! Admits connections: a limited number for each port and each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::ConnectionLimits;
use crate::problem::{Kind, Problem, RETRY_AFTER_SECONDS};
use crate::serve::Shape;

/// How many refused clients get time to read the response. The others are cut off.
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
    all: usize,
    /// The connections of each address that is not loopback.
    by_address: HashMap<IpAddr, usize>,
}

/// Counts a connection until it is dropped.
pub(super) struct Ticket {
    admission: Arc<Admission>,
    address: IpAddr,
}

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

    /// Counts a connection, or refuses it.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Result<Ticket, Refusal> {
        let address = counted_as(peer);
        let mut open = self.open();
        if open.all >= self.limits.connections_max {
            return Err(self.refuse("port", "this port has reached its limit of connections (USS_CONNECTIONS_MAX)"));
        }
        if !address.is_loopback() {
            let of_address = open.by_address.entry(address).or_default();
            if *of_address >= self.limits.per_address_max {
                let why = "your address has reached its limit of connections (USS_CONNECTIONS_PER_ADDRESS_MAX)";
                return Err(self.refuse("address", why));
            }
            *of_address += 1;
        }
        open.all += 1;
        drop(open);
        gauge!("uss_connections", "port" => self.port).increment(1.0);
        Ok(Ticket { admission: self.clone(), address })
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

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.admission.open();
        open.all -= 1;
        if let Some(of_address) = open.by_address.get_mut(&self.address) {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
        drop(open);
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
            let admitted = admission.admit(peer.parse().unwrap());
            assert_eq!(admitted.is_ok(), taken, "{peer}");
            held.extend(admitted.ok());
        }
        held.clear();
        {
            let open = admission.open();
            assert_eq!((open.all, open.by_address.len()), (0, 0), "closed connections leave nothing behind");
        }
        for _ in 0..5 {
            held.push(
                admission.admit("127.0.0.1".parse().unwrap()).ok().expect("only the port's limit applies to loopback"),
            );
        }
        assert!(admission.admit("::1".parse().unwrap()).is_err());
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

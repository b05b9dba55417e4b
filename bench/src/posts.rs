//! Events one by one, each answered when it is on disk.

use std::path::Path;
use std::time::Duration;

use crate::server::{Server, settle};
use crate::stream::{Seen, Subscriber};
use crate::table::{Spread, Table, grouped};
use crate::workload::{self, Clauses, Lines};
use crate::{Result, disk, load};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 50_000;
/// Of the closed loop; of the open one, so that a stall of the server does not keep the client from sending.
const CONNECTIONS: usize = 256;
const DURATION: Duration = Duration::from_secs(8);

/// The rate that many connections reach; at half of it the time of an answer, and of a transition to a subscriber.
pub async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    server.make_users(0, USERS).await?;
    let sync = disk::sync_time(server.data())?;
    table.add("disk: append of 4 KiB and fdatasync", "before the posts", sync.to_string());
    let rate = full_rate(&server).await?;
    let conditions = format!("{CONNECTIONS} connections, {SEGMENTS} segments");
    table.add("single POST: rate", conditions, format!("{} events/s", grouped(rate)));
    server.told().await?;

    let at_half = format!("{} events/s, fixed", grouped(rate / 2.0));
    let mut lines = Lines::new(1, 0, USERS, false);
    let times = load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, DURATION, || lines.next()).await?;
    table.add("single POST: time of an answer", &at_half, Spread::of(times).to_string());

    let subscriber = Subscriber::start(&server).await?;
    load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, DURATION, || lines.next()).await?;
    server.told().await?;
    settle(Duration::from_secs(1)).await;
    let seen = subscriber.finish().await?;
    let conditions = format!("{at_half}, {} transitions", grouped(seen.len() as f64));
    let told = Spread::of(seen.iter().map(Seen::told_after).collect());
    table.add("event taken → transition told", &conditions, told.to_string());
    let read = Spread::of(seen.iter().map(Seen::seen_after).collect());
    table.add("event taken → read from the stream", &conditions, read.to_string());
    server.stop()
}

/// Events per second, each connection waiting for its answers.
async fn full_rate(server: &Server) -> Result<f64> {
    let events = |number: usize| -> Box<dyn FnMut() -> String> {
        let mut lines = Lines::new(1_000 + number as u64, 0, USERS, false);
        Box::new(move || lines.next())
    };
    load::as_fast_as_answered(&server.ingestion, CONNECTIONS, DURATION, events).await
}

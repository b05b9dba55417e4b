//! Single events, each with a response when it is on disk.

use std::path::Path;
use std::time::Duration;

use crate::server::{Server, settle};
use crate::stream::{Seen, Subscriber};
use crate::table::{Spread, Table, grouped};
use crate::workload::{self, Clauses, Lines};
use crate::{Result, disk, load};

const SEGMENTS: usize = 1_000;
const USERS: u64 = 50_000;
/// Enough that a stall of the server does not keep the client from sending at a fixed rate.
const CONNECTIONS: usize = 256;
const DURATION: Duration = Duration::from_secs(8);

/// Measures the rate that the connections reach, and at half of it the time to a response and to a
/// subscriber.
pub(crate) async fn run(binary: &Path, table: &mut Table) -> Result<()> {
    let server = Server::with_segments(binary, &workload::clauses(SEGMENTS, Clauses::MANY_CHANGES)).await?;
    server.create_users(0, USERS).await?;
    let sync = disk::sync_time(server.data())?;
    table.add("disk: append of 4 KiB and fdatasync", "before the posts", sync.to_string());
    let rate = full_rate(&server).await?;
    let conditions = format!("{CONNECTIONS} connections, {SEGMENTS} segments");
    table.add("single POST: rate", conditions, format!("{} events/s", grouped(rate)));
    server.wait_until_applied().await?;

    let at_half = format!("{} events/s, fixed", grouped(rate / 2.0));
    let mut lines = Lines::new(1, 0, USERS, false);
    let times = load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, DURATION, || lines.next()).await?;
    table.add("single POST: time to the response", &at_half, Spread::of(times).to_string());

    let subscriber = Subscriber::start(&server).await?;
    load::at_rate(&server.ingestion, CONNECTIONS, rate / 2.0, DURATION, || lines.next()).await?;
    server.wait_until_applied().await?;
    settle(Duration::from_secs(1)).await;
    let seen = subscriber.finish().await?;
    let conditions = format!("{at_half}, {} transitions", grouped(seen.len() as f64));
    let emitted = Spread::of(seen.iter().map(Seen::emitted_after).collect());
    table.add("event appended → transition emitted", &conditions, emitted.to_string());
    let read = Spread::of(seen.iter().map(Seen::read_after).collect());
    table.add("event appended → read from the stream", &conditions, read.to_string());
    server.stop()
}

/// Returns the events per second if each connection waits for its responses.
async fn full_rate(server: &Server) -> Result<f64> {
    let events = |number: usize| -> Box<dyn FnMut() -> String> {
        let mut lines = Lines::new(1_000 + number as u64, 0, USERS, false);
        Box::new(move || lines.next())
    };
    load::closed_loop(&server.ingestion, CONNECTIONS, DURATION, events).await
}

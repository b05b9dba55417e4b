//! Every bound of the ingestion API, with its default.

use std::time::Duration;

use uss_http::pace::Pace;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The bounds of bodies, events and requests.
#[derive(Clone, Debug)]
pub struct Limits {
    /// One event, as sent.
    pub event_bytes_max: usize,
    /// One client's id of a user (and its type): more does not fit into an index of the config store.
    pub id_bytes_max: usize,
    /// The body of a single event or of a JSON array, unpacked.
    pub body_bytes_max: usize,
    /// The events of a JSON array.
    pub array_events_max: usize,
    /// How much of a rejected event's text the error topic keeps; of longer ones also the length and a hash.
    pub error_text_bytes_max: usize,
    /// How many times its packed size a body may unpack to. Ordinary events unpack to 5 to 40
    /// times, those that differ in a counter only to 55 times; gzip could do 1,000.
    pub unpacked_ratio_max: u64,
    /// This much a body may unpack to, whatever its ratio: a few equal events are packed very well.
    pub unpacked_free_bytes: u64,
    /// NDJSON: a line longer than this ends the request, and so do as many bytes of blank lines in a row. Keeps a small
    /// packed body from costing hours.
    pub line_bytes_max: usize,
    /// The rejected events of one request: it is not read beyond them. Some kilobytes of packed lines could make millions
    /// of records of the error topic, and an answer of as many entries.
    pub rejected_max: usize,
    /// NDJSON: how much goes into the log at once.
    pub chunk_bytes_max: usize,
    /// NDJSON: how many events go into the log at once.
    pub chunk_events_max: usize,
    /// NDJSON: how long events wait for more to come before they go into the log.
    pub chunk_linger: Duration,
    /// NDJSON: how much of the answer is held back while the request is still being read. Only an answer longer than this
    /// (tens of thousands of refusals) has to be read while the request is sent.
    pub answer_bytes_held_max: usize,
    /// How long a body may pause, and how long an unfinished line may wait for its end.
    pub body_pause_max: Duration,
    /// How slowly a single event or a JSON array may come, in bytes as sent.
    pub body_pace: Pace,
    /// Bodies being worked on, all requests together. Over it: 429.
    pub in_flight_bytes_max: usize,
    /// Of these, what the requests from one address may hold together while the others hold nothing. Of what the others
    /// leave, it may hold the same fraction. So some clients never take all from everybody else.
    pub client_bytes_max: usize,
    /// NDJSON: how long a request of which some events are stored waits for room for the next.
    pub room_wait_max: Duration,
    /// While the readers of the log are further behind than so many records, requests wait: some twenty seconds of work
    /// for two cores.
    pub behind_max: u64,
    /// The same for a body that is no longer than one event may be.
    pub behind_short_max: u64,
    /// How long a request waits so; NDJSON before each piece that goes into the log.
    pub behind_wait_max: Duration,
    /// Requests that wait so. Over it they are refused at once.
    pub held_up_max: usize,
    /// Requests that wait so, each with a piece of its body that does not count as held. Over it they do not wait.
    pub waiting_for_room_max: usize,
    /// Identities asked for in one call.
    pub resolve_max: usize,
    /// Calls at once that look up or create users: one, and the next that is ready when it ends.
    pub lookups_at_once_max: usize,
    /// Identities that wait to be looked up or created, some seconds of work. Over it: 429.
    pub unresolved_identities_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes_max: 32 * KIB,
            id_bytes_max: KIB,
            body_bytes_max: 16 * MIB,
            array_events_max: 50_000,
            error_text_bytes_max: 256 * KIB,
            unpacked_ratio_max: 200,
            unpacked_free_bytes: MIB as u64,
            line_bytes_max: 64 * MIB,
            rejected_max: 10_000,
            chunk_bytes_max: MIB,
            chunk_events_max: 5_000,
            chunk_linger: Duration::from_millis(10),
            answer_bytes_held_max: 4 * MIB,
            body_pause_max: Duration::from_secs(60),
            body_pace: Pace::default(),
            in_flight_bytes_max: 256 * MIB,
            client_bytes_max: 64 * MIB,
            room_wait_max: Duration::from_secs(30),
            behind_max: 2_000_000,
            behind_short_max: 3_000_000,
            behind_wait_max: Duration::from_secs(10),
            held_up_max: 256,
            waiting_for_room_max: 256,
            resolve_max: 5_000,
            lookups_at_once_max: 2,
            unresolved_identities_max: 100_000,
        }
    }
}

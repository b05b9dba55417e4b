//! A record of the event topic: it is read or refused, read alike a second time, and read alike for
//! the warehouse.

use ports::records::decode::{Input, decode_input, decode_to_archive};
use segment_engine::eval::jsonb_ordered;
use segment_engine::event::Position;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

const AT: Position = Position { partition: PartitionId(1), offset: 2 };
const RECEIVED: Timestamp = Timestamp(1_770_000_000_000_000);

/// A record's value.
pub(crate) fn run(bytes: &[u8]) {
    let decoded = decode_input(bytes, AT, RECEIVED);
    assert_eq!(format!("{decoded:?}"), format!("{:?}", decode_input(bytes, AT, RECEIVED)));
    let archived = decode_to_archive(bytes, AT, RECEIVED);
    match (decoded, archived) {
        (Ok(Input::Event(one)), Ok(Input::Event(other))) => {
            assert_eq!(one.dedupe_forever, other.dedupe_forever);
            assert_eq!(one.event.map_payload(|payload| jsonb_ordered(&payload).into()), other.event);
        }
        (one, other) => assert_eq!(format!("{one:?}"), format!("{other:?}")),
    }
}

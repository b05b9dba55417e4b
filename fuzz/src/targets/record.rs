//! A record of the event topic: it is read or refused, and read alike a second time.

use ports::records::decode::decode_input;
use segment_engine::event::Position;
use segment_engine::ids::PartitionId;
use segment_engine::time::Timestamp;

/// A record's value.
pub(crate) fn run(bytes: &[u8]) {
    let decode =
        || decode_input(bytes, Position { partition: PartitionId(1), offset: 2 }, Timestamp(1_770_000_000_000_000));
    assert_eq!(format!("{:?}", decode()), format!("{:?}", decode()));
}

//! An event as a client sends it: what is admitted can be read back from the log.

use ingestion_api::Limits;
use ingestion_api::admission::{Received, admit};
use ports::records::decode::decode_event;
use ports::records::instant;
use segment_engine::event::Position;
use segment_engine::ids::{PartitionId, UserId};
use segment_engine::time::Timestamp;

const NOW: Timestamp = Timestamp(1_770_000_000_000_000);

/// One event.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(draft) = admit(Received::from(bytes), &Limits::default()) else { return };
    let record = draft.record.encode(UserId(7), &instant::format(NOW), false);
    let position = Position { partition: PartitionId(1), offset: 2 };
    let delivery = decode_event(&record, position, NOW)
        .unwrap_or_else(|bad| panic!("{}\n{}", bad.message, String::from_utf8_lossy(&record)));
    assert_eq!(delivery.event.user_id, UserId(7));
    assert_eq!(&*delivery.event.client_ref_id, &*draft.id);
    assert_eq!(delivery.event.id_type.as_deref(), draft.id_type.as_deref());
    if let Some(created_at) = draft.created_at {
        assert_eq!(delivery.event.created_at, created_at);
    }
}

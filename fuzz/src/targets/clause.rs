//! Where clauses: what compiles has a normal form that means the same, and SQL.

use segment_engine::ids::UserId;
use segment_engine::language::{compile, compile_saved};
use segment_engine::sql::{SegmentSource, member_query, members_query, size_query};
use segment_engine::time::Timestamp;

const NOW: Timestamp = Timestamp(1_770_000_000_000_000);

/// A clause.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(clause) = std::str::from_utf8(bytes) else { return };
    let saved = compile_saved(clause);
    let Ok(plan) = compile(clause) else { return };
    assert_eq!(saved.as_ref(), Ok(&plan), "what is accepted now means the same when it is read again");
    match compile(&plan.normal_form) {
        Ok(again) => assert_eq!(again, plan, "{clause}\n{}\n{}", plan.normal_form, again.normal_form),
        // It may be longer than the clause.
        Err(error) => {
            assert!(error.code.to_lowercase().starts_with("where_too_"), "{clause}\n{}\n{error}", plan.normal_form)
        }
    }
    let members = [UserId(1)];
    let by_hand = |_: &str| Some(SegmentSource::Members(&members));
    let _ = size_query(&plan, &by_hand, NOW).unwrap();
    let _ = members_query(&plan, &by_hand, NOW).unwrap();
    let _ = member_query(&plan, &by_hand, NOW, UserId(1)).unwrap();
    let _ = size_query(&plan, &|_| Some(SegmentSource::Plan(&plan)), NOW);
}

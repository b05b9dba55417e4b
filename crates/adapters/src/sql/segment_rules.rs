//! Checks a segment's tag and clause against the tables, in the transaction of the write.

use std::collections::{BTreeMap, HashSet};

use ports::ErrorCode;
use ports::config_store::{ConfigStoreError, Segment, cycle_refused, in_use, unknown_tags};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::entities::{segment, segment_use};
use super::{BOUND_MAX, Result, unavailable};

pub(super) async fn check_tag(db: &impl ConnectionTrait, segment: &Segment) -> Result<()> {
    let query = segment::Entity::find().filter(segment::Column::Tag.eq(segment.tag.as_str()));
    match query.one(db).await.map_err(unavailable)? {
        Some(other) if other.id != segment.id.0 => {
            Err(ConfigStoreError::taken(ErrorCode::TagTaken, "tag", &segment.tag, other.id))
        }
        _ => Ok(()),
    }
}

/// Refuses if other segments name this segment's tag.
pub(super) async fn check_unused(db: &impl ConnectionTrait, segment: &Segment) -> Result<()> {
    let query = segment_use::Entity::find().filter(segment_use::Column::Tag.eq(segment.tag.as_str()));
    let query = query.filter(segment_use::Column::SegmentId.ne(segment.id.0));
    let ids = query.all(db).await.map_err(unavailable)?.into_iter().map(|row| row.segment_id);
    let query = segment::Entity::find().filter(segment::Column::Id.is_in(ids)).order_by_asc(segment::Column::Id);
    let using: Vec<String> = query.all(db).await.map_err(unavailable)?.into_iter().map(|row| row.tag).collect();
    if using.is_empty() { Ok(()) } else { Err(in_use(&segment.tag, &using)) }
}

/// Refuses if the clause names a tag that does not exist, or one that leads back to this segment.
pub(super) async fn check_uses(db: &impl ConnectionTrait, segment: &Segment) -> Result<()> {
    // Without the segment's own row: it may still have the tag that this write removes.
    let others = tags_of(db, &segment.uses).await?.into_iter().filter(|(id, _)| *id != segment.id.0);
    let existing: HashSet<String> = others.map(|(_, tag)| tag).collect();
    let unknown = |tag: &&String| **tag != segment.tag && !existing.contains(*tag);
    let missing: Vec<String> = segment.uses.iter().filter(unknown).cloned().collect();
    if !missing.is_empty() {
        return Err(unknown_tags(&missing));
    }
    match path_back(db, segment).await? {
        None => Ok(()),
        Some(path) => Err(cycle_refused(&path)),
    }
}

/// Follows `uses`, a level at a time, until it comes back to the segment's tag.
async fn path_back(db: &impl ConnectionTrait, segment: &Segment) -> Result<Option<Vec<String>>> {
    // The predecessor of each reached tag. A tag is followed only once.
    let mut reached_from: BTreeMap<String, String> = BTreeMap::new();
    let mut frontier: Vec<(String, String)> =
        segment.uses.iter().map(|tag| (segment.tag.clone(), tag.clone())).collect();
    while !frontier.is_empty() {
        let mut next = Vec::new();
        for (from, tag) in frontier {
            if tag == segment.tag {
                return Ok(Some(path(&reached_from, &from, &tag)));
            }
            if !reached_from.contains_key(&tag) {
                reached_from.insert(tag.clone(), from);
                next.push(tag);
            }
        }
        frontier = uses_of(db, &next).await?;
    }
    Ok(None)
}

/// Returns the path from `target` via `last` back to `target`.
fn path(reached_from: &BTreeMap<String, String>, last: &str, target: &str) -> Vec<String> {
    let mut path = vec![target.to_owned()];
    let mut at = last;
    while at != target {
        path.push(at.to_owned());
        at = &reached_from[at];
    }
    path.push(target.to_owned());
    path.reverse();
    path
}

/// Returns those of these tags that exist, by segment id.
async fn tags_of(db: &impl ConnectionTrait, tags: &[String]) -> Result<BTreeMap<i64, String>> {
    let mut found = BTreeMap::new();
    for chunk in tags.chunks(BOUND_MAX) {
        let query = segment::Entity::find().select_only().column(segment::Column::Id).column(segment::Column::Tag);
        let query = query.filter(segment::Column::Tag.is_in(chunk.iter().map(String::as_str)));
        let rows: Vec<(i64, String)> = query.into_tuple().all(db).await.map_err(unavailable)?;
        found.extend(rows);
    }
    Ok(found)
}

/// Returns the tags that the segments with these tags name: (tag, named tag).
async fn uses_of(db: &impl ConnectionTrait, tags: &[String]) -> Result<Vec<(String, String)>> {
    let by_id = tags_of(db, tags).await?;
    let ids: Vec<i64> = by_id.keys().copied().collect();
    let mut uses = Vec::new();
    for chunk in ids.chunks(BOUND_MAX) {
        let query = segment_use::Entity::find().filter(segment_use::Column::SegmentId.is_in(chunk.iter().copied()));
        let rows = query.order_by_asc(segment_use::Column::Tag).all(db).await.map_err(unavailable)?;
        uses.extend(rows.into_iter().map(|row| (by_id[&row.segment_id].clone(), row.tag)));
    }
    Ok(uses)
}

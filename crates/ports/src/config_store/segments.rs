//! Segments, and the rules for `segment('tag')` between them.

use async_trait::async_trait;
use segment_engine::ids::{SegmentId, SegmentVersion};
use segment_engine::time::Timestamp;

use super::{Activity, ConfigStoreError, Page};

use crate::ErrorCode;

/// What decides on the members of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// The where clause.
    Computed,
    /// A list that people or an import set.
    Manual,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Starts at 1 and is never reused.
    pub id: SegmentId,
    /// Shown to people.
    pub title: String,
    /// Shown to people.
    pub description: Option<String>,
    /// The name in URLs and in `segment('tag')`. Unique.
    pub tag: String,
    /// The where clause; empty selects every known user.
    pub where_statement: String,
    /// Stored as given; has no effect on membership.
    pub is_generic: bool,
    /// What decides on the members.
    pub kind: SegmentKind,
    /// Grows by one with each change of tag or where clause.
    pub version: SegmentVersion,
    /// The tags that the where clause names, ascending.
    pub uses: Vec<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A segment to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSegment {
    /// As in [`Segment`].
    pub title: String,
    /// As in [`Segment`].
    pub description: Option<String>,
    /// As in [`Segment`].
    pub tag: String,
    /// As in [`Segment`]. The caller has compiled it.
    pub where_statement: String,
    /// As in [`Segment`].
    pub is_generic: bool,
    /// As in [`Segment`].
    pub kind: SegmentKind,
    /// As in [`Segment`], taken from the compiled clause.
    pub uses: Vec<String>,
}

/// What to change of a segment: `None` leaves a field as it is. Its kind never changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentChange {
    /// As in [`Segment`].
    pub title: Option<String>,
    /// As in [`Segment`]; `Some(None)` empties it.
    pub description: Option<Option<String>>,
    /// As in [`Segment`].
    pub tag: Option<String>,
    /// A where clause, and the tags that it names.
    pub clause: Option<(String, Vec<String>)>,
    /// As in [`Segment`].
    pub is_generic: Option<bool>,
}

/// The segments of the config store.
///
/// Each write checks in its transaction that every tag that a clause names exists (`Invalid`,
/// `UNKNOWN_SEGMENT`), that no segment depends on itself (`Invalid`, `SEGMENT_CYCLE`, with the
/// path), and that no tag is removed that a clause names (`Conflict`, `SEGMENT_IN_USE`, with the
/// segments that name it).
#[async_trait]
pub trait SegmentStore: Send + Sync + 'static {
    /// Creates a segment. Conflict: `TAG_TAKEN`.
    async fn create_segment(&self, new: NewSegment, now: Timestamp) -> Result<Segment, ConfigStoreError>;

    /// Returns the segment with this id.
    async fn segment(&self, id: SegmentId) -> Result<Option<Segment>, ConfigStoreError>;

    /// Returns the segment with this tag.
    async fn segment_by_tag(&self, tag: &str) -> Result<Option<Segment>, ConfigStoreError>;

    /// Counts the segments.
    async fn count_segments(&self) -> Result<u64, ConfigStoreError>;

    /// Returns a page of the segments.
    async fn segments(&self, page: Page) -> Result<Vec<Segment>, ConfigStoreError>;

    /// Returns the generic segments and those linked to the activity with this code, ordered by id.
    async fn generics_and_by(&self, activity_code: &str) -> Result<Vec<Segment>, ConfigStoreError>;

    /// Changes a segment. Conflicts: `TAG_TAKEN`, `SEGMENT_IN_USE` for a new tag.
    async fn update_segment(
        &self,
        id: SegmentId,
        change: SegmentChange,
        now: Timestamp,
    ) -> Result<Segment, ConfigStoreError>;

    /// Deletes a segment with its links and memberships. Conflict: `SEGMENT_IN_USE`.
    async fn delete_segment(&self, id: SegmentId) -> Result<(), ConfigStoreError>;

    /// Returns the activities linked to a segment, ordered by id.
    async fn activities_of(&self, segment: SegmentId) -> Result<Vec<Activity>, ConfigStoreError>;
}

impl Segment {
    /// Returns the first version of a new segment.
    pub fn new(id: SegmentId, new: NewSegment, now: Timestamp) -> Segment {
        let NewSegment { title, description, tag, where_statement, is_generic, kind, uses } = new;
        let uses = ascending(uses);
        Segment {
            id,
            title,
            description,
            tag,
            where_statement,
            is_generic,
            kind,
            version: SegmentVersion::FIRST,
            uses,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Returns the segment with a change applied, and whether tag or clause changed: only then it gets
/// a new version, and the outbox a record.
pub fn change_segment(segment: &Segment, change: SegmentChange, now: Timestamp) -> (Segment, bool) {
    let mut changed = segment.clone();
    changed.title = change.title.unwrap_or(changed.title);
    changed.description = change.description.unwrap_or(changed.description);
    changed.is_generic = change.is_generic.unwrap_or(changed.is_generic);
    changed.tag = change.tag.unwrap_or(changed.tag);
    if let Some((where_statement, uses)) = change.clause {
        changed.where_statement = where_statement;
        changed.uses = ascending(uses);
    }
    changed.updated_at = now;
    let is_redefined = changed.tag != segment.tag || changed.where_statement != segment.where_statement;
    if is_redefined {
        changed.version = changed.version.next();
    }
    (changed, is_redefined)
}

fn ascending(mut tags: Vec<String>) -> Vec<String> {
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Makes the error of a clause that names segments that do not exist.
pub fn unknown_tags(tags: &[String]) -> ConfigStoreError {
    ConfigStoreError::Invalid {
        code: ErrorCode::UnknownSegment,
        message: format!("there is no segment with the tag {}; create it first", quoted(tags)),
    }
}

/// Makes the error of a clause that makes a segment depend on itself. `path` starts and ends with
/// the segment's tag.
pub fn cycle_refused(path: &[String]) -> ConfigStoreError {
    ConfigStoreError::Invalid {
        code: ErrorCode::SegmentCycle,
        message: format!("the segment would depend on itself: {}", path.join(" -> ")),
    }
}

/// Makes the conflict of deleting or retagging a segment that others name.
pub fn in_use(tag: &str, users: &[String]) -> ConfigStoreError {
    ConfigStoreError::conflict(
        ErrorCode::SegmentInUse,
        format!("segment('{tag}') is used by {}; change those first", quoted(users)),
    )
}

fn quoted(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("'{tag}'")).collect::<Vec<_>>().join(", ")
}

//! Segments, and the rules that keep `segment('tag')` between them sound.

use async_trait::async_trait;
use segment_engine::time::Timestamp;

use super::{Activity, ConfigStoreError, Page};

use crate::ErrorCode;

/// Who decides on the members of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentKind {
    /// Its where clause.
    Computed,
    /// People or an import: a list kept by hand.
    Manual,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id: from 1, never given twice.
    pub id: i64,
    /// For people.
    pub title: String,
    /// For people.
    pub description: Option<String>,
    /// Its name in URLs and in `segment('tag')`. Unique.
    pub tag: String,
    /// The where clause; empty selects every known user.
    pub where_statement: String,
    /// Stored as given; without effect on membership.
    pub is_generic: bool,
    /// Who decides on its members.
    pub kind: SegmentKind,
    /// Grows by one with each change of what it means.
    pub version: u64,
    /// The tags that its where clause names, ascending.
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
    /// As in [`Segment`]: the caller has compiled it.
    pub where_statement: String,
    /// As in [`Segment`].
    pub is_generic: bool,
    /// As in [`Segment`].
    pub kind: SegmentKind,
    /// As in [`Segment`]: of the compiled clause.
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
/// Writes check in their transaction that every tag named by a clause exists (`Invalid`, `UNKNOWN_SEGMENT`), that no
/// segment depends on itself (`Invalid`, `SEGMENT_CYCLE`, with the path), and that no tag in use goes away
/// (`Conflict`, `SEGMENT_IN_USE`, naming the users of it).
#[async_trait]
pub trait SegmentStore: Send + Sync + 'static {
    /// Creates a segment. Conflict: `TAG_TAKEN`.
    async fn create_segment(&self, new: NewSegment, now: Timestamp) -> Result<Segment, ConfigStoreError>;

    /// A segment by id.
    async fn segment(&self, id: i64) -> Result<Option<Segment>, ConfigStoreError>;

    /// A segment by tag.
    async fn segment_by_tag(&self, tag: &str) -> Result<Option<Segment>, ConfigStoreError>;

    /// The segments by id.
    async fn segments(&self, page: Page) -> Result<Vec<Segment>, ConfigStoreError>;

    /// The generic segments, and those linked to the activity with this code, by id.
    async fn generics_and_by(&self, activity_code: &str) -> Result<Vec<Segment>, ConfigStoreError>;

    /// Changes a segment. Conflicts: `TAG_TAKEN`, `SEGMENT_IN_USE` for a new tag.
    async fn update_segment(&self, id: i64, change: SegmentChange, now: Timestamp)
    -> Result<Segment, ConfigStoreError>;

    /// Deletes a segment with its links and memberships. Conflict: `SEGMENT_IN_USE`.
    async fn delete_segment(&self, id: i64) -> Result<(), ConfigStoreError>;

    /// The activities linked to a segment, by id.
    async fn activities_of(&self, segment: i64) -> Result<Vec<Activity>, ConfigStoreError>;
}

impl Segment {
    /// A new segment's first version.
    pub fn new(id: i64, new: NewSegment, now: Timestamp) -> Segment {
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
            version: 1,
            uses,
            created_at: now,
            updated_at: now,
        }
    }
}

/// The segment after a change, and whether it now means something else: only then do version and outbox move.
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
    let means_else = changed.tag != segment.tag || changed.where_statement != segment.where_statement;
    changed.version += u64::from(means_else);
    (changed, means_else)
}

fn ascending(mut tags: Vec<String>) -> Vec<String> {
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// The refusal of a clause that names segments which do not exist.
pub fn unknown_tags(tags: &[String]) -> ConfigStoreError {
    ConfigStoreError::Invalid {
        code: ErrorCode::UnknownSegment,
        message: format!("there is no segment with the tag {}; create it first", quoted(tags)),
    }
}

/// The refusal of a clause that makes a segment depend on itself. `path` starts and ends with its tag.
pub fn cycle_refused(path: &[String]) -> ConfigStoreError {
    ConfigStoreError::Invalid {
        code: ErrorCode::SegmentCycle,
        message: format!("the segment would depend on itself: {}", path.join(" -> ")),
    }
}

/// The refusal to delete or retag a segment that others name.
pub fn in_use(tag: &str, users: &[String]) -> ConfigStoreError {
    ConfigStoreError::conflict(
        ErrorCode::SegmentInUse,
        format!("segment('{tag}') is used by {}; change those first", quoted(users)),
    )
}

fn quoted(tags: &[String]) -> String {
    tags.iter().map(|tag| format!("'{tag}'")).collect::<Vec<_>>().join(", ")
}

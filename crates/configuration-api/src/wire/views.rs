//! The JSON views of what the store holds.

use std::collections::BTreeMap;

use ports::config_store::{Activity, Identity, Membership, Segment, SegmentKind, Traits, User};
use ports::records::instant;
use ports::records::json_text::JsonText;
use ports::segment_queries::BackfillProgress;
use segment_engine::ids::{SegmentId, SegmentVersion};
use serde::Serialize;

/// `{id, clientRefId, name, email, createdAt, updatedAt, segments}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UserView {
    id: i64,
    client_ref_id: Option<String>,
    name: Option<String>,
    email: Option<String>,
    created_at: String,
    updated_at: String,
    segments: Vec<MembershipView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    merged_from: Option<i64>,
}

/// `{userId, segmentId, createdAt, updatedAt}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MembershipView {
    user_id: i64,
    segment_id: SegmentId,
    created_at: String,
    updated_at: String,
}

/// `{id, title, description, code, createdAt, updatedAt}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ActivityView {
    id: i64,
    title: String,
    description: Option<String>,
    code: String,
    created_at: String,
    updated_at: String,
}

/// `{id, title, description, tag, whereStatement, isGeneric, kind, version, createdAt, updatedAt}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SegmentView {
    id: SegmentId,
    title: String,
    description: Option<String>,
    tag: String,
    where_statement: String,
    is_generic: bool,
    kind: &'static str,
    version: SegmentVersion,
    created_at: String,
    updated_at: String,
}

/// `{userId, idType, id, createdAt}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentityView {
    user_id: i64,
    id_type: String,
    id: String,
    created_at: String,
}

/// `{segmentId, version, ratio, partitions}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgressView {
    segment_id: SegmentId,
    version: SegmentVersion,
    ratio: f64,
    partitions: PartitionsView,
}

/// `{inForce, total}`
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartitionsView {
    in_force: u32,
    total: u32,
}

impl ProgressView {
    pub(crate) fn new(segment_id: SegmentId, progress: &BackfillProgress) -> Self {
        let BackfillProgress { version, ratio, partitions: (in_force, total) } = *progress;
        Self { segment_id, version, ratio, partitions: PartitionsView { in_force, total } }
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            client_ref_id: user.client_id().map(str::to_owned),
            name: user.name,
            email: user.email,
            created_at: instant::format(user.created_at),
            updated_at: instant::format(user.updated_at),
            segments: user.segments.into_iter().map(MembershipView::from).collect(),
            merged_from: user.merged_from.map(|id| id.0),
        }
    }
}

impl From<Membership> for MembershipView {
    fn from(membership: Membership) -> Self {
        Self {
            user_id: membership.user_id.0,
            segment_id: membership.segment_id,
            created_at: instant::format(membership.created_at),
            updated_at: instant::format(membership.updated_at),
        }
    }
}

impl From<Activity> for ActivityView {
    fn from(activity: Activity) -> Self {
        Self {
            id: activity.id,
            title: activity.title,
            description: activity.description,
            code: activity.code,
            created_at: instant::format(activity.created_at),
            updated_at: instant::format(activity.updated_at),
        }
    }
}

impl From<Segment> for SegmentView {
    fn from(segment: Segment) -> Self {
        Self {
            id: segment.id,
            title: segment.title,
            description: segment.description,
            tag: segment.tag,
            where_statement: segment.where_statement,
            is_generic: segment.is_generic,
            kind: if segment.kind == SegmentKind::Manual { "manual" } else { "computed" },
            version: segment.version,
            created_at: instant::format(segment.created_at),
            updated_at: instant::format(segment.updated_at),
        }
    }
}

impl From<Identity> for IdentityView {
    fn from(identity: Identity) -> Self {
        Self {
            user_id: identity.user_id.0,
            id_type: identity.key.id_type,
            id: identity.key.id,
            created_at: instant::format(identity.created_at),
        }
    }
}

/// Returns the traits that are set, by key. A removed trait is kept as null, and left out here.
pub(crate) fn traits(traits: Traits) -> BTreeMap<String, JsonText> {
    traits.into_iter().filter(|(_, kept)| !kept.value.is_null()).map(|(key, kept)| (key, kept.value)).collect()
}

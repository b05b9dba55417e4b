//! The response to saving a segment: the segment and its cost, and on request its progress and how
//! many users would enter and leave.

use std::collections::BTreeSet;
use std::time::Duration;

use ports::config_store::{Page, Segment, SegmentKind};
use ports::segment_queries::{BackfillProgress, SegmentQueryError};
use segment_engine::ids::{SegmentId, UserId};
use serde::Serialize;
use tokio::time::timeout;
use uss_http::Problem;

use super::clause;
use crate::api::Api;
use crate::wire::views::{ProgressView, SegmentView};

/// How long the response waits for each of these. The segment is saved by then, so what is not
/// known in time is null.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Members read at once.
const MEMBERS_PAGE: usize = 1_000;

/// A segment, and what saving it leads to.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SavedView {
    #[serde(flatten)]
    segment: SegmentView,
    /// As `validate` returns it; null for a manual segment.
    cost: Option<String>,
    would_enter: Option<u64>,
    would_leave: Option<u64>,
    /// Why these two are null.
    #[serde(skip_serializing_if = "Option::is_none")]
    would_enter_reason: Option<String>,
    /// Null if the version did not get its place in the log in time.
    progress: Option<ProgressView>,
}

/// The members of a segment before it was saved, or why they are not known.
pub(crate) type Before = Result<BTreeSet<UserId>, String>;

/// Returns what stands for the members if nobody asked how many users enter and leave.
pub(crate) fn not_asked() -> Before {
    Err("not computed: ask with ?estimate=true, or preview the clause".to_owned())
}

/// Reads the members of a segment whose clause is about to change. After the change they begin to
/// differ.
pub(crate) async fn members_before(api: &Api, segment: SegmentId) -> Before {
    let read = async {
        let (mut members, mut after) = (BTreeSet::new(), 0);
        loop {
            let page = api.store.members(segment, Page { after, limit: MEMBERS_PAGE }).await?;
            let Some(last) = page.last() else { return Ok(members) };
            after = last.user.id.0;
            members.extend(page.iter().map(|member| member.user.id));
        }
    };
    in_time(read).await
}

/// Shows a segment that was just saved, when it stands in the log: an event that the client sends
/// next comes after it. `before`: its members until then, if the clause is new. `estimate`: whether
/// the response waits for what the engine knows of the segment.
pub(crate) async fn view(api: &Api, segment: Segment, before: Option<Before>, estimate: bool) -> SavedView {
    let cost = (segment.kind == SegmentKind::Computed).then(|| clause::saved(&segment.where_statement)).flatten();
    let is_new = before.is_some();
    let progress = async {
        if estimate || !is_new {
            return in_time(api.queries.progress(segment.id)).await.ok();
        }
        api.queries.wait_until_ordered().await.ok()?;
        // It stands in the log now, and nobody waits until a partition has read it.
        let partitions = (0, api.log.partitions());
        Some(BackfillProgress { version: segment.version, ratio: 0.0, partitions })
    };
    let (moves, progress) = tokio::join!(moves(api, &segment.where_statement, before), progress);
    let (moves, would_enter_reason) = match moves {
        Ok(moves) => (Some(moves), None),
        Err(reason) => (None, Some(reason)),
    };
    SavedView {
        cost: cost.map(|plan| clause::cost(&plan)),
        would_enter: moves.map(|(enter, _)| enter),
        would_leave: moves.map(|(_, leave)| leave),
        would_enter_reason,
        progress: progress.map(|progress| ProgressView::new(segment.id, &progress)),
        segment: segment.into(),
    }
}

/// Counts the users that the clause lets enter and makes leave.
async fn moves(api: &Api, where_statement: &str, before: Option<Before>) -> Result<(u64, u64), String> {
    let Some(before) = before.transpose()? else { return Ok((0, 0)) };
    let sample = if before.is_empty() { 0 } else { usize::MAX };
    let after = in_time(api.queries.preview(where_statement, sample, true)).await?;
    let stay = after.sample.iter().filter(|user| before.contains(user)).count() as u64;
    Ok((after.size - stay, before.len() as u64 - stay))
}

/// Returns the query's result if it comes in time; else why not.
async fn in_time<T>(query: impl Future<Output = Result<T, SegmentQueryError>>) -> Result<T, String> {
    match timeout(WAIT_MAX, query).await {
        Ok(result) => result.map_err(|error| Problem::from(error).message),
        Err(_) => Err(SegmentQueryError::TooSlow(WAIT_MAX).to_string()),
    }
}

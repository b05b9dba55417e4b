//! Memberships: manual segments, and the batches of the membership writer.

use axum::extract::State;
use ports::ErrorCode;
use ports::config_store::{Applied, MembershipBatch, MembershipChange};
use ports::log::Topic;
use ports::records::instant;
use segment_engine::ids::{PartitionId, SegmentId, UserId};
use serde::Deserialize;
use serde_json::{Value, json};
use uss_http::Problem;
use uss_http::extract::{Json, Path};

use crate::api::Api;
use crate::wire::response::Data;
use crate::wire::views::UserView;

#[derive(Debug, Deserialize)]
pub(crate) struct ManualBody {
    segments: Vec<SegmentId>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BatchBody {
    partition: PartitionId,
    from: u64,
    to: u64,
    changes: Vec<ChangeBody>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeBody {
    user_id: i64,
    #[serde(default)]
    entered: Vec<SegmentId>,
    #[serde(default)]
    left: Vec<SegmentId>,
    effective_at: String,
}

impl BatchBody {
    fn batch(self, partitions: u32) -> Result<MembershipBatch, Problem> {
        let BatchBody { partition, from, to, changes } = self;
        // Once stored, it would be in every position that clients are given.
        if partition.0 >= partitions {
            let message = format!("there is no partition {partition}; the log has {partitions}, counted from 0");
            return Err(Problem::invalid(ErrorCode::InvalidPartition, message));
        }
        if from > to {
            return Err(Problem::invalid(ErrorCode::InvalidRange, "from must not be greater than to"));
        }
        let changes = changes.into_iter().map(ChangeBody::change).collect::<Result<_, _>>()?;
        Ok(MembershipBatch { partition, from, to, changes })
    }
}

impl ChangeBody {
    fn change(self) -> Result<MembershipChange, Problem> {
        let effective_at = instant::parse(&self.effective_at)
            .ok_or_else(|| Problem::invalid(ErrorCode::InvalidTime, "effectiveAt must be RFC 3339"))?;
        Ok(MembershipChange { user_id: UserId(self.user_id), entered: self.entered, left: self.left, effective_at })
    }
}

/// Sets the manual segments of a user; `ignored` lists the ids that do not belong to a manual
/// segment.
pub(crate) async fn set_manual(
    State(api): State<Api>,
    Path(user): Path<i64>,
    Json(body): Json<ManualBody>,
) -> Result<Json<Value>, Problem> {
    let set = api.store.set_manual_memberships(UserId(user), &body.segments, api.now()).await?;
    let user: UserView = api.user(user).await?.into();
    Ok(Json(json!({"data": user, "ignored": set.ignored})))
}

pub(crate) async fn apply(State(api): State<Api>, Json(body): Json<BatchBody>) -> Result<Data<Value>, Problem> {
    let batch = body.batch(api.log.partitions())?;
    let to = batch.to;
    // Once stored, it would keep every change before it from being written.
    let (_, end) = api.log.bounds(Topic::Notifications, batch.partition).await?;
    if to > end {
        let message =
            format!("to is {to}, beyond the end of the notification topic's partition {}, {end}", batch.partition);
        return Err(Problem::invalid(ErrorCode::PositionBeyondEnd, format!("{message}; send what the topic holds")));
    }
    Ok(Data(match api.store.apply_memberships(batch).await? {
        Applied::Now => json!({"applied": true, "position": to}),
        Applied::Before(position) => json!({"applied": false, "position": position}),
    }))
}

pub(crate) async fn positions(State(api): State<Api>) -> Result<Data<Vec<Value>>, Problem> {
    let stored = api.store.membership_positions().await?;
    let view = |(partition, position)| json!({"partition": partition, "position": position});
    Ok(Data(stored.into_iter().map(view).collect()))
}
